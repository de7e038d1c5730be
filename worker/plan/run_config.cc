#include "worker/plan/run_config.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <regex>

#include "worker/plan/json_section.h"

namespace ithaca::plan {
namespace {

using nlohmann::json;

constexpr double kLargestDouble = std::numeric_limits<double>::max();

// Options of the job file that a later version implements.
void RefuseIf(bool asked, JsonSection& section, const std::string& key, const std::string& what) {
  if (asked) section.AddProblem(key, what + " is not implemented in this version");
}

void ReadModel(JsonSection section, RunConfig& config) {
  section.Read("path", config.model_path);
  if (config.model_path.empty()) section.AddProblem("path", "must name a Hugging Face model directory");
  section.Read(
      "dtype", config.dtype,
      std::vector<std::pair<std::string, DType>>{{"float32", DType::kFloat32}, {"bfloat16", DType::kBFloat16}});

  if (const json* scaling = section.Get("rope_scaling"); scaling != nullptr && !scaling->empty()) {
    config.rope_scaling_json = scaling->dump();
    JsonSection override_section = section.Child("rope_scaling");
    std::string type;
    override_section.Read("type", type);
    if (type.empty()) override_section.AddProblem("type", "must be given: linear, yarn or llama3");
    if (!override_section.Has("factor")) override_section.AddProblem("factor", "must be given");
    override_section.Ignore(
        {"original_positions", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"});
    override_section.RefuseUnknownKeys();
  }

  JsonSection lora = section.Child("lora");
  int64_t lora_rank = 0;
  lora.Read("rank", lora_rank, 0);
  RefuseIf(lora_rank > 0, lora, "rank", "LoRA (a rank above 0)");
  lora.Ignore({"alpha", "dropout", "targets"});
  lora.RefuseUnknownKeys();
  section.RefuseUnknownKeys();
}

std::vector<DataFile> ReadFiles(JsonSection& section, const std::string& key, Problems& problems) {
  std::vector<DataFile> files;
  const json* list = section.Get(key);
  if (list == nullptr) return files;
  if (!list->is_array()) {
    section.AddProblem(key, "must be a list of paths, not " + std::string(list->type_name()));
    return files;
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const json& entry = (*list)[i];
    DataFile file;
    JsonSection item(entry.is_string() ? nullptr : &entry, "data." + key + "[" + std::to_string(i) + "]", problems);
    if (entry.is_string()) file.path = entry.get<std::string>();
    item.Read("path", file.path);
    item.Read("weight", file.weight, 0.0, kLargestDouble);
    if (file.path.empty() && (entry.is_object() || entry.is_string())) item.AddProblem("path", "must not be empty");
    RefuseIf(file.weight != 1.0, item, "weight", "a weight other than 1");
    item.RefuseUnknownKeys();
    files.push_back(std::move(file));
  }
  return files;
}

void ReadData(JsonSection section, RunConfig& config, Problems& problems) {
  config.train = ReadFiles(section, "train", problems);
  config.eval = ReadFiles(section, "eval", problems);
  if (config.train.empty()) section.AddProblem("train", "must name at least one file");
  section.Read("sequence_length", config.sequence_length, 2, int64_t{1} << 40);
  if (!section.Has("sequence_length")) section.AddProblem("sequence_length", "is required");
  section.Read("packing", config.packing);
  section.Read("shuffle", config.shuffle);
  section.Ignore({"chat"});
  section.RefuseUnknownKeys();
}

void ReadParallelism(JsonSection section, RunConfig& config) {
  section.Read("sequence", config.sequence_ranks, 1, 1 << 20);
  section.Read("replicas", config.replicas, 1, 1 << 20);
  section.RefuseUnknownKeys();
}

void ReadTraining(JsonSection section, RunConfig& config) {
  section.Read("steps", config.steps, 0);
  section.Read("epochs", config.epochs, 0.0, 1e9);
  if (config.steps > 0 && config.epochs > 0) section.AddProblem("steps", "and training.epochs exclude each other");
  if (config.steps == 0 && config.epochs == 0) {
    section.AddProblem("steps", "or training.epochs is required and must be above 0");
  }
  section.Read("global_batch", config.global_batch, 1, 1 << 30);
  section.Read("learning_rate", config.learning_rate, 0.0, 1e3);
  if (config.learning_rate == 0.0) section.AddProblem("learning_rate", "must be above 0");

  JsonSection schedule = section.Child("schedule");
  schedule.Read("type", config.schedule,
                std::vector<std::pair<std::string, ScheduleType>>{{"constant", ScheduleType::kConstant},
                                                                  {"linear", ScheduleType::kLinear},
                                                                  {"cosine", ScheduleType::kCosine},
                                                                  {"wsd", ScheduleType::kWsd}});
  schedule.Read("warmup_steps", config.warmup_steps, 0);
  schedule.Read("min_ratio", config.min_ratio, 0.0, 1.0);
  schedule.RefuseUnknownKeys();

  JsonSection optimizer = section.Child("optimizer");
  optimizer.Read("beta1", config.beta1, 0.0, 1.0);
  optimizer.Read("beta2", config.beta2, 0.0, 1.0);
  if (config.beta1 == 1.0) optimizer.AddProblem("beta1", "must be below 1");
  if (config.beta2 == 1.0) optimizer.AddProblem("beta2", "must be below 1");
  optimizer.Read("epsilon", config.epsilon, 0.0, 1.0);
  optimizer.Read("weight_decay", config.weight_decay, 0.0, 1e3);
  optimizer.Read("clip_norm", config.clip_norm, 0.0, kLargestDouble);
  optimizer.RefuseUnknownKeys();

  section.Read("seed", config.seed, 0);
  section.RefuseUnknownKeys();
}

void ReadMemory(JsonSection section, RunConfig& config) {
  section.Read("layer_inputs", config.layer_inputs,
               std::vector<std::pair<std::string, LayerInputs>>{{"keep", LayerInputs::kKeep},
                                                                {"recompute", LayerInputs::kRecompute}},
               {"offload"});
  section.Read("attention_outputs", config.attention_outputs,
               std::vector<std::pair<std::string, AttentionOutputs>>{{"keep", AttentionOutputs::kKeep},
                                                                     {"recompute", AttentionOutputs::kRecompute}},
               {"offload"});
  if (config.layer_inputs == LayerInputs::kKeep && config.attention_outputs == AttentionOutputs::kRecompute) {
    section.AddProblem("attention_outputs", "cannot be recompute where layer_inputs is keep");
  }
  section.Read("loss_chunk", config.loss_chunk, 1);
  section.Read("mlp_tile", config.mlp_tile, 0);
  section.Read(
      "sharding", config.sharding,
      std::vector<std::pair<std::string, Sharding>>{{"none", Sharding::kNone}, {"optimizer", Sharding::kOptimizer}},
      {"gradients", "parameters"});
  section.Expect("optimizer", "device", {"host"});
  section.Expect("parameters", "device", {"host"});
  int64_t head_groups = 1;
  section.Read("head_groups", head_groups, 0);
  RefuseIf(head_groups > 1, section, "head_groups", "more than one group of heads");
  section.RefuseUnknownKeys();
}

void ReadCheckpoint(JsonSection section, RunConfig& config) {
  section.Read("directory", config.checkpoint_directory);
  section.Read("every_steps", config.checkpoint_every_steps, 0);
  section.Read("keep", config.checkpoint_keep, 1);
  section.Read("export", config.export_model);
  section.Read("resume_from", config.resume_from);
  section.RefuseUnknownKeys();
}

void ReadResources(JsonSection section, RunConfig& config) {
  section.Read("device", config.device,
               std::vector<std::pair<std::string, DeviceKind>>{{"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}});
  section.Read("nodes", config.nodes, 1, 1 << 20);
  RefuseIf(config.nodes > 1, section, "nodes", "a job on more than one host");
  section.Read("slots_per_node", config.slots_per_node, 1, 1 << 20);
  section.Read("threads_per_rank", config.threads_per_rank, 0, 1 << 16);
  section.Ignore({"profile"});
  section.RefuseUnknownKeys();
}

}  // namespace

RunConfig ParseRunConfig(const json& json, Problems& problems) {
  RunConfig config;
  JsonSection root(&json, "", problems);
  root.Read("name", config.name);
  static const std::regex kDnsLabel("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?");
  if (!config.name.empty() && !std::regex_match(config.name, kDnsLabel)) {
    root.AddProblem("name", "must be a DNS label: at most 63 lower-case letters, digits and inner dashes");
  }
  ReadModel(root.Child("model"), config);
  ReadData(root.Child("data"), config, problems);
  ReadParallelism(root.Child("parallelism"), config);
  ReadTraining(root.Child("training"), config);
  ReadMemory(root.Child("memory"), config);
  JsonSection evaluation = root.Child("evaluation");
  evaluation.Read("every_steps", config.evaluate_every_steps, 0);
  evaluation.Read("sequences", config.evaluate_sequences, 0);
  evaluation.RefuseUnknownKeys();
  if (config.evaluate_every_steps > 0 && config.eval.empty()) {
    evaluation.AddProblem("every_steps", "needs data.eval");
  }
  ReadCheckpoint(root.Child("checkpoint"), config);
  ReadResources(root.Child("resources"), config);
  root.Ignore({"labels", "priority", "restart", "limits"});
  root.RefuseUnknownKeys();
  return config;
}

ModelConfig ModelOf(const RunConfig& config, const nlohmann::json& model_config, Problems& problems) {
  return ParseModelConfig(WithRopeScaling(model_config, json::parse(config.rope_scaling_json)), problems);
}

}  // namespace ithaca::plan
