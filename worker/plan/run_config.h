#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/plan/model_config.h"
#include "worker/plan/problem.h"

namespace ithaca::plan {

enum class DType { kFloat32, kBFloat16 };
enum class DeviceKind { kCpu, kCuda };
enum class LayerInputs { kKeep, kRecompute };  // keep every activation of a layer, or only its input
// Keep attention output and log-sum-exp of every layer, or run whole segments of layers forward again.
enum class AttentionOutputs { kKeep, kRecompute };
enum class Sharding { kNone, kOptimizer };  // over all ranks; ZeRO 0 and 1 (arXiv 1910.02054)
enum class ScheduleType { kConstant, kLinear, kCosine, kWsd };

struct DataFile {
  std::string path;  // may be a glob
  double weight = 1.0;
};

// run.json, the job file as the engine reads it, with defaults filled in. An empty optional is `auto`: the plan
// chooses. Keys are those of the job file (docs/job_reference.md); a job-file option that this version does not
// implement is a Problem.
struct RunConfig {
  std::string name;

  std::string model_path;                // Hugging Face directory
  std::optional<DType> dtype;            // auto: bfloat16 on cuda, float32 on cpu
  std::string rope_scaling_json = "{}";  // instead of config.json's, for WithRopeScaling; "{}" = none

  std::vector<DataFile> train;
  std::vector<DataFile> eval;
  int64_t sequence_length = 0;  // tokens of the whole sequence, over all ranks of its group
  bool packing = true;
  bool shuffle = true;

  std::optional<int> sequence_ranks;  // P
  std::optional<int> replicas;

  int64_t steps = 0;                    // 0: by epochs
  double epochs = 0;                    // 0: by steps
  std::optional<int64_t> global_batch;  // sequences per step
  double learning_rate = 2.0e-5;
  ScheduleType schedule = ScheduleType::kCosine;
  int64_t warmup_steps = 0;
  double min_ratio = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1.0e-8;
  double weight_decay = 0.0;  // on matrices only
  double clip_norm = 1.0;     // 0: no clipping
  uint64_t seed = 0;

  std::optional<Sharding> sharding;
  std::optional<LayerInputs> layer_inputs;
  std::optional<AttentionOutputs> attention_outputs;
  std::optional<int64_t> loss_chunk;  // tokens
  std::optional<int64_t> mlp_tile;    // tokens

  int64_t evaluate_every_steps = 0;  // 0: never
  int64_t evaluate_sequences = 0;    // 0: all

  std::string checkpoint_directory;  // empty: nothing is written
  int64_t checkpoint_every_steps = 0;
  int64_t checkpoint_keep = 2;
  bool export_model = true;
  std::string resume_from;  // a step directory, "latest", or empty

  std::optional<DeviceKind> device;
  int nodes = 1;
  std::optional<int> slots_per_node;
  int threads_per_rank = 0;  // 0: cores of the host / ranks on it
};

// Reads run.json. Appends every mistake to `problems` (unknown keys, wrong types, values out of range, options this
// version does not implement); the result is only meaningful if none was added.
RunConfig ParseRunConfig(const nlohmann::json& json, Problems& problems);

// The model of a job: its config.json with the job's own RoPE scaling.
ModelConfig ModelOf(const RunConfig& config, const nlohmann::json& model_config, Problems& problems);

}  // namespace ithaca::plan
