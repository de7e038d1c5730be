#include "worker/plan/plan_suggestion.h"

#include <algorithm>

#include "worker/plan/head_plan.h"
#include "worker/plan/memory_terms.h"

namespace ithaca::plan {
namespace {

constexpr int64_t kLengthStep = 1024;  // suggested lengths are multiples of this where they can be

bool Fits(const ModelConfig& model, const MemoryPlan& plan) {
  return TotalBytes(MemoryTerms(model, plan)) <= plan.capacity_bytes;
}

MemoryPlan WithRanks(MemoryPlan plan, int64_t length, int ranks) {
  plan.sequence_ranks = ranks;
  plan.padded_sequence_length = (length + ranks - 1) / ranks * ranks;
  return plan;
}

// The fewest ranks up to `most` with which the job fits, or 0.
int FewestRanks(const RunConfig& config, const ModelConfig& model, const MemoryPlan& plan, int most) {
  for (int ranks = plan.sequence_ranks + 1; ranks <= most; ++ranks) {
    if (!HeadPlan::Validate(model.query_heads, model.kv_heads, ranks).empty()) continue;
    if (Fits(model, WithRanks(plan, config.sequence_length, ranks))) return ranks;
  }
  return 0;
}

// The longest sequence with which the job fits, or 0. Memory grows with length.
int64_t LongestSequence(const RunConfig& config, const ModelConfig& model, const MemoryPlan& plan) {
  int64_t low = 0, high = config.sequence_length;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (Fits(model, WithRanks(plan, middle, plan.sequence_ranks)) ? low : high) = middle;
  }
  return low >= kLengthStep ? low / kLengthStep * kLengthStep : low;
}

}  // namespace

std::string SmallestChangeThatFits(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits,
                                   const MemoryPlan& plan) {
  MemoryPlan frugal = plan;
  if (plan.world_size() > 1) frugal.sharding = Sharding::kOptimizer;
  if (plan.sharding == Sharding::kNone && Fits(model, frugal)) return "it would fit with memory.sharding: optimizer";
  frugal.layer_inputs = LayerInputs::kRecompute;
  if (plan.layer_inputs == LayerInputs::kKeep && Fits(model, frugal)) {
    return "it would fit with memory.layer_inputs: recompute";
  }
  frugal = RecomputingAttention(model, frugal);
  if (plan.attention_outputs == AttentionOutputs::kKeep && Fits(model, frugal)) {
    return "it would fit with memory.layer_inputs and memory.attention_outputs: recompute";
  }
  const int query_heads = static_cast<int>(model.query_heads);
  const int slots = std::min(query_heads, limits.slots / std::max(1, plan.replicas));
  if (const int ranks = FewestRanks(config, model, frugal, slots)) {
    return "it would fit with parallelism.sequence: " + std::to_string(ranks);
  }
  const int64_t length = LongestSequence(config, model, frugal);
  std::string sentence = length > 0
                             ? "it would fit with data.sequence_length: " + std::to_string(length)
                             : "parameters, gradients and optimizer state alone do not fit, whatever the sequence";
  if (const int ranks = FewestRanks(config, model, frugal, query_heads)) {
    sentence += ", or on " + std::to_string(ranks) + " ranks to a sequence where there are as many slots";
  }
  return sentence;
}

}  // namespace ithaca::plan
