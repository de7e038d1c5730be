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
  nlohmann::json json = ReadJson(path, plan::ExitCode::kInvalidModel);
  const nlohmann::json scaling = nlohmann::json::parse(config.rope_scaling_json);
  if (!scaling.empty()) json["rope_scaling"] = scaling;
  plan::Problems problems;
  plan::ModelConfig model = plan::ParseModelConfig(json, problems);
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

// The plan of the job on this world; tells it, and throws when it cannot run.
plan::MemoryPlan PlanRun(const plan::RunConfig& config, const plan::ModelConfig& model, const RankDevice& device,
                         const RendezvousOptions& rendezvous, EventSink& events) {
  plan::Problems problems;
  plan::MemoryPlan plan = plan::MakePlan(config, model, device.limits, problems);
  ThrowIfAny(problems, plan::ExitCode::kInvalidConfig, "the job cannot run");
  const std::string table = plan::FormatPlanTable(plan, config, model, device.limits);
  if (rendezvous.rank == 0) {
    nlohmann::json fields = plan::ToJson(plan);
    fields["table"] = table;
    events.Emit("plan", fields);
  }
  if (!plan.fits) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "the job does not fit in memory: " + plan.suggestion + "\n" + table);
  }
  if (plan.sequence_ranks * plan.replicas != rendezvous.world_size) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "the job is for " + std::to_string(plan.sequence_ranks) + " x " + std::to_string(plan.replicas) +
                          " ranks (parallelism.sequence x replicas), but WORLD_SIZE is " +
                          std::to_string(rendezvous.world_size));
  }
  return plan;
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
std::optional<std::string> CheckpointToResume(const plan::RunConfig& config, Communicator& world, at::Device device) {
  if (config.resume_from.empty()) return std::nullopt;
  if (config.resume_from != "latest") return config.resume_from;
  at::Tensor step = at::full({1}, -1, at::kLong);
  if (world.rank() == 0) {
    if (const auto newest = FindNewestValid(config.checkpoint_directory)) {
      step.fill_(std::stoll(newest->substr(newest->find_last_of('-') + 1)));
    }
  }
  step = step.to(device);
  if (world.size() > 1) world.Broadcast(step, 0);
  const int64_t found = step.item<int64_t>();
  if (found < 0) return std::nullopt;
  std::string digits = std::to_string(found);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return config.checkpoint_directory + "/step-" + digits;
}

}  // namespace

plan::ExitCode Run(const EngineOptions& options, EventSink& events, Heartbeat& heartbeat, Requests& requests) {
  const plan::RunConfig config = ReadRunConfig(options);
  const plan::ModelConfig model = ReadModelConfig(config);
  RendezvousOptions rendezvous = RendezvousOptions::FromEnvironment();
  const int local_ranks = IntFromEnvironment("LOCAL_WORLD_SIZE", std::max(1, rendezvous.world_size / config.nodes));
  SetThreads(config, local_ranks);
  const RankDevice device = ChooseDevice(config, rendezvous.local_rank, local_ranks, rendezvous.world_size);
  if (device.device.is_cuda()) heartbeat.SetCudaDevice(device.device.index());
  const plan::MemoryPlan plan = PlanRun(config, model, device, rendezvous, events);
  if (options.plan_only) {
    std::cerr << plan::FormatPlanTable(plan, config, model, device.limits);
    return plan::ExitCode::kDone;
  }

  heartbeat.SetPhase("joining");
  rendezvous.on_listening = [&](const std::string& host, int port) {
    events.Emit("listening", {{"host", host}, {"port", port}});
  };
  const std::unique_ptr<Mesh> mesh = Mesh::Create(rendezvous, plan.sequence_ranks, device.limits.kind);

  heartbeat.SetPhase("loading");
  const DataSource train = OpenData(config.train, config, model, plan, config.shuffle);
  std::optional<DataSource> evaluation;
  if (!config.eval.empty() && config.evaluate_every_steps > 0) {
    evaluation = OpenData(config.eval, config, model, plan, /*shuffle=*/false);
  }
  Trainer trainer({.config = config,
                   .model = model,
                   .plan = plan,
                   .device = device,
                   .mesh = *mesh,
                   .train = train,
                   .evaluation = evaluation ? &*evaluation : nullptr,
                   .events = events,
                   .heartbeat = heartbeat,
                   .requests = requests});
  if (mesh->world().rank() == 0 && !config.checkpoint_directory.empty()) {
    PrepareCheckpointDirectory(config.checkpoint_directory);
  }
  if (const auto checkpoint = CheckpointToResume(config, mesh->world(), device.device)) {
    trainer.Resume(*checkpoint);
  } else {
    trainer.LoadWeights(WeightFiles(config.model_path));
  }
  mesh->world().Barrier();
  events.Emit("ready", nlohmann::json::object());
  if (options.dump_gradients_directory.empty()) return trainer.Train();
  trainer.DumpGradients(options.dump_gradients_directory);
  return plan::ExitCode::kDone;
}

}  // namespace ithaca::engine
