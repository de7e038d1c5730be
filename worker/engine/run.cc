#include "worker/engine/run.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/weight_files.h"
#include "worker/engine/comm/mesh.h"
#include "worker/engine/data/data_source.h"
#include "worker/engine/device.h"
#include "worker/engine/errors.h"
#include "worker/engine/failure.h"
#include "worker/engine/trainer.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"
#include "worker/plan/plan_table.h"
#include "worker/plan/run_config.h"

namespace ithaca::engine {
namespace {

nlohmann::json ReadJson(const std::string& path, plan::ExitCode code) {
  std::ifstream file(path);
  if (!file) throw EngineError(code, "cannot read " + path);
  nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw EngineError(code, path + " is not JSON");
  return json;
}

// All mistakes in one message, so that they can be mended at once.
void ThrowIfAny(const plan::Problems& problems, plan::ExitCode code, const std::string& where) {
  if (problems.empty()) return;
  std::string message = where + ": ";
  for (size_t i = 0; i < problems.size(); ++i) {
    message += (i == 0 ? "" : "; ") + (problems[i].path.empty() ? "" : problems[i].path + ": ") + problems[i].message;
  }
  throw EngineError(code, message);
}

plan::RunConfig ReadRunConfig(const EngineOptions& options) {
  plan::Problems problems;
  plan::RunConfig config =
      plan::ParseRunConfig(ReadJson(options.config_path, plan::ExitCode::kInvalidConfig), problems);
  ThrowIfAny(problems, plan::ExitCode::kInvalidConfig, options.config_path);
  if (!options.model_directory.empty()) config.model_path = options.model_directory;
  return config;
}

plan::ModelConfig ReadModelConfig(const plan::RunConfig& config) {
  const std::string path = config.model_path + "/config.json";
  const nlohmann::json json = ReadJson(path, plan::ExitCode::kInvalidModel);
  plan::Problems problems;
  plan::ModelConfig model = plan::ModelOf(config, json, problems);
  ThrowIfAny(problems, plan::ExitCode::kInvalidModel, path);
  return model;
}

int IntFromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : std::atoi(value);
}

void SetThreads(const plan::RunConfig& config, int local_ranks) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  at::set_num_threads(config.threads_per_rank > 0 ? config.threads_per_rank : std::max(1, cores / local_ranks));
  at::set_num_interop_threads(1);
}

// The sequence-parallel ranks follow from the world where the job leaves them open and the world is given.
void FillInSequenceRanks(plan::RunConfig& config, int world_size) {
  if (config.sequence_ranks || std::getenv("WORLD_SIZE") == nullptr) return;
  config.sequence_ranks = std::max(1, world_size / config.replicas.value_or(1));
}

plan::MemoryPlan PlanWithin(const plan::RunConfig& config, const plan::ModelConfig& model,
                            const plan::DeviceLimits& limits) {
  plan::Problems problems;
  plan::MemoryPlan plan = plan::MakePlan(config, model, limits, problems);
  ThrowIfAny(problems, plan::ExitCode::kInvalidConfig, "the job cannot run");
  return plan;
}

// The mistakes that a rank can see without the others. Memory is not looked at: `limits` differ between ranks.
plan::MemoryPlan CheckAlone(const plan::RunConfig& config, const plan::ModelConfig& model, plan::DeviceLimits limits,
                            int world_size) {
  limits.bytes_per_slot = 0;
  plan::MemoryPlan plan = PlanWithin(config, model, limits);
  if (plan.sequence_ranks * plan.replicas != world_size) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "the job is for " + std::to_string(plan.sequence_ranks) + " x " + std::to_string(plan.replicas) +
                          " ranks (parallelism.sequence x replicas), but WORLD_SIZE is " + std::to_string(world_size));
  }
  if (config.resume_from == "latest" && config.checkpoint_directory.empty()) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "checkpoint.resume_from is latest, but there is no checkpoint.directory to look in");
  }
  return plan;
}

// What the ranks' collectives depend on, for Mesh::Create to compare.
std::string AgreementOf(const plan::RunConfig& config, const plan::MemoryPlan& plan) {
  const nlohmann::json json = plan::ToJson(plan);
  std::string text;
  for (const char* key : {"dtype", "global_batch", "padded_sequence_length", "sharding", "layer_inputs",
                          "segment_layers", "loss_chunk", "mlp_tile"}) {
    text += std::string(text.empty() ? "" : ", ") + key + " " + json[key].dump();
  }
  return text + ", steps " + std::to_string(config.steps) + ", seed " + std::to_string(config.seed);
}

// What the fullest rank has, so that all ranks make the same plan. Collective over the world.
plan::DeviceLimits LeastLimits(plan::DeviceLimits limits, Communicator& world, at::Device device) {
  if (world.size() == 1) return limits;
  at::Tensor most =
      at::tensor({-limits.bytes_per_slot, -limits.host_bytes_per_slot, int64_t{limits.threads_per_slot}}, at::kLong)
          .to(device);
  world.AllReduceMax(most);
  const at::Tensor on_host = most.cpu();
  const int64_t* values = on_host.const_data_ptr<int64_t>();
  limits.bytes_per_slot = -values[0];
  limits.host_bytes_per_slot = -values[1];
  limits.threads_per_slot = static_cast<int>(values[2]);
  return limits;
}

// What Run works with from before the mesh stands.
struct Job {
  const EngineOptions& options;
  plan::RunConfig config;
  plan::ModelConfig model;
  RankDevice device;
};

// The plan within `limits`, told by rank 0. One that does not fit is told, and thrown.
plan::MemoryPlan TellPlan(const Job& job, const plan::DeviceLimits& limits, bool tells, EventSink& events) {
  const plan::MemoryPlan plan = PlanWithin(job.config, job.model, limits);
  const std::string table = plan::FormatPlanTable(plan, job.config, job.model, limits);
  if (tells) {
    nlohmann::json fields = plan::ToJson(plan);
    fields["table"] = table;
    events.Emit("plan", fields);
  }
  if (job.options.plan_only) std::cerr << table;
  if (plan.fits) return plan;
  throw EngineError(plan::ExitCode::kInvalidConfig,
                    "the job does not fit in memory: " + plan.suggestion + "\n" + table);
}

DataSource OpenData(const std::vector<plan::DataFile>& files, const plan::RunConfig& config,
                    const plan::ModelConfig& model, const plan::MemoryPlan& plan, bool shuffle) {
  return DataSource::Open({.files = files,
                           .tokenizer_path = config.model_path + "/tokenizer.json",
                           .vocab_size = model.vocab_size,
                           .eos_token_id = model.eos_token_id,
                           .sequence_length = config.sequence_length,
                           .multiple_of = plan.sequence_ranks,
                           .packing = config.packing,
                           .shuffle = shuffle,
                           .seed = config.seed});
}

// The checkpoint to go on from, or none. `latest` is looked for by rank 0, so that all ranks take the same.
std::optional<std::string> CheckpointToResume(const plan::RunConfig& config, Mesh& mesh, at::Device device) {
  if (config.resume_from.empty()) return std::nullopt;
  if (config.resume_from != "latest") return config.resume_from;
  at::Tensor step = at::full({1}, -1, at::kLong);
  mesh.OnRankZero([&] {  // hashes whole checkpoints
    if (const auto newest = FindNewestValid(config.checkpoint_directory)) {
      step.fill_(std::stoll(newest->substr(newest->find_last_of('-') + 1)));
    }
  });
  step = step.to(device);
  if (mesh.world().size() > 1) mesh.world().Broadcast(step, 0);
  const int64_t found = step.item<int64_t>();
  if (found < 0) return std::nullopt;
  std::string digits = std::to_string(found);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return config.checkpoint_directory + "/step-" + digits;
}

// Checkpoints beyond the step this run goes on from are of a branch it leaves: `latest` must not find them later.
void LeaveOtherBranch(const plan::RunConfig& config, int64_t steps_done, EventSink& events) {
  for (const std::string& path : AbandonNewer(config.checkpoint_directory, steps_done)) {
    events.Emit("warning", {{"message", "the run goes on from step " + std::to_string(steps_done) +
                                            ": a checkpoint of a later step was set aside as " + path}});
  }
}

plan::ExitCode RunOnMesh(const Job& job, Mesh& mesh, EventSink& events, Heartbeat& heartbeat, Requests& requests) {
  const plan::RunConfig& config = job.config;
  const bool writes = mesh.world().rank() == 0 && !config.checkpoint_directory.empty();
  const bool trains = job.options.dump_gradients_directory.empty();
  const plan::DeviceLimits limits = LeastLimits(job.device.limits, mesh.world(), job.device.device);
  mesh.world().Barrier();  // where it does not fit, nobody leaves before all know the limits
  const plan::MemoryPlan plan = TellPlan(job, limits, mesh.world().rank() == 0, events);
  heartbeat.SetPhase("loading");
  const DataSource train = OpenData(config.train, config, job.model, plan, config.shuffle);
  std::optional<DataSource> evaluation;
  if (!config.eval.empty() && config.evaluate_every_steps > 0) {
    evaluation = OpenData(config.eval, config, job.model, plan, /*shuffle=*/false);
  }
  Trainer trainer({.config = config,
                   .model = job.model,
                   .plan = plan,
                   .device = job.device,
                   .mesh = mesh,
                   .train = train,
                   .evaluation = evaluation ? &*evaluation : nullptr,
                   .events = events,
                   .heartbeat = heartbeat,
                   .requests = requests});
  if (writes) PrepareCheckpointDirectory(config.checkpoint_directory);
  if (const auto checkpoint = CheckpointToResume(config, mesh, job.device.device)) {
    trainer.Resume(*checkpoint);
  } else {
    trainer.LoadWeights(WeightFiles(config.model_path));
  }
  mesh.world().Barrier();
  if (writes && trains && config.resume_from != "latest") LeaveOtherBranch(config, trainer.steps_done(), events);
  events.Emit("ready", nlohmann::json::object());
  if (trains) return trainer.Train();
  trainer.DumpGradients(job.options.dump_gradients_directory);
  return plan::ExitCode::kDone;
}

}  // namespace

plan::ExitCode Run(const EngineOptions& options, EventSink& events, Heartbeat& heartbeat, Requests& requests) {
  Job job{.options = options, .config = ReadRunConfig(options), .model = {}, .device = {}};
  job.model = ReadModelConfig(job.config);
  RendezvousOptions rendezvous = RendezvousOptions::FromEnvironment();
  const int local_ranks = IntFromEnvironment("LOCAL_WORLD_SIZE", std::max(1, rendezvous.world_size / job.config.nodes));
  SetThreads(job.config, local_ranks);
  FillInSequenceRanks(job.config, rendezvous.world_size);
  job.device = ChooseDevice(job.config, rendezvous.local_rank, local_ranks, rendezvous.world_size);
  const plan::DeviceLimits& limits = job.device.limits;
  if (job.device.device.is_cuda()) heartbeat.SetCudaDevice(job.device.device.index());
  const plan::MemoryPlan alone = CheckAlone(job.config, job.model, limits, rendezvous.world_size);

  if (options.plan_only) {
    TellPlan(job, limits, rendezvous.rank == 0, events);
    return plan::ExitCode::kDone;
  }
  heartbeat.SetPhase("joining");
  rendezvous.agreement = AgreementOf(job.config, alone);
  rendezvous.on_listening = [&](const std::string& host, int port) {
    events.Emit("listening", {{"host", host}, {"port", port}});
  };
  const std::unique_ptr<Mesh> mesh = Mesh::Create(rendezvous, alone.sequence_ranks, limits.kind);
  plan::ExitCode code = plan::ExitCode::kInternal;
  const auto failure = Catch([&] { code = RunOnMesh(job, *mesh, events, heartbeat, requests); });
  if (!failure) return code;
  ReportFailure(*failure, events);
  mesh->Abort(failure->message);
  return failure->code;
}

}  // namespace ithaca::engine
