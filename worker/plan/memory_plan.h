#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/plan/model_config.h"
#include "worker/plan/run_config.h"

namespace ithaca::plan {

// What the ranks run on. `slots` devices or CPU slots in all; `bytes_per_slot` is the memory one rank may use.
struct DeviceLimits {
  DeviceKind kind = DeviceKind::kCpu;
  std::string name;  // "NVIDIA H100 80GB HBM3", "cpu"
  int slots = 1;
  int64_t bytes_per_slot = 0;  // 0: unknown, nothing is refused
  int64_t host_bytes_per_slot = 0;
  int threads_per_slot = 0;  // of a CPU rank; each holds scratch of its own. 0: unknown, taken for 4
};

// One line of the memory table: bytes that the fullest rank holds at the moment of its peak, and how they come about.
struct MemoryTerm {
  std::string name;  // parameters gradients optimizer layer_inputs attention_outputs attention mlp head_chunk exchange
                     // data runtime host
  int64_t bytes = 0;
  std::string formula;  // "134.5 M x 4 B"
};

// A setting that the job file left to the plan, or fixed.
struct Choice {
  std::string key;    // "memory.layer_inputs"
  std::string value;  // "recompute"
  std::string reason;
};

// The settings that run and the memory per rank that follows from them. The engine runs exactly this.
struct MemoryPlan {
  DType dtype = DType::kFloat32;
  DeviceKind device = DeviceKind::kCpu;
  int sequence_ranks = 1;
  int replicas = 1;
  int64_t global_batch = 1;
  int64_t micro_batches = 1;           // of one sequence each, per replica and step
  int64_t padded_sequence_length = 0;  // sequence_length rounded up to a multiple of sequence_ranks
  Sharding sharding = Sharding::kNone;
  LayerInputs layer_inputs = LayerInputs::kRecompute;
  AttentionOutputs attention_outputs = AttentionOutputs::kKeep;
  int64_t segment_layers = 1;  // every how many layers an input stays: 1 unless attention outputs are recomputed
  int64_t loss_chunk = 0;      // tokens of a shard whose logits exist at a time
  int64_t mlp_tile = 0;        // tokens of a shard that pass the MLP at a time; 0: all
  int threads = 1;             // CPU threads of a rank, for its scratch memory

  int world_size() const { return sequence_ranks * replicas; }

  std::vector<MemoryTerm> terms;
  std::vector<Choice> choices;
  int64_t total_bytes = 0;
  int64_t capacity_bytes = 0;  // 0: unknown
  bool fits = true;
  std::string suggestion;  // if it does not fit: the smallest change that would, in one sentence
};

// Chooses every setting that `config` leaves open: the fastest combination that fits, else the smallest, with fits =
// false. Mistakes that make a run impossible (more ranks than heads, a sequence beyond the model's positions, ...) go
// to `problems`.
MemoryPlan MakePlan(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits, Problems& problems);

// `plan` with layers recomputed whole, in segments of as many layers as keep least: the inputs of segments, and inputs
// and attention outputs of the layers of one segment.
MemoryPlan RecomputingAttention(const ModelConfig& model, MemoryPlan plan);

// Floating-point operations of one trained token, forward and backward, without recomputation:
// 6 N_matmul + 12 L Hq D T_mean, T_mean the mean attended length.
double FlopsPerToken(const ModelConfig& model, double mean_attended_length);

nlohmann::json ToJson(const MemoryPlan& plan);

}  // namespace ithaca::plan
