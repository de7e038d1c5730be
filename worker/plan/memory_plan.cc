#include "worker/plan/memory_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "worker/plan/head_plan.h"
#include "worker/plan/memory_terms.h"
#include "worker/plan/plan_suggestion.h"

namespace ithaca::plan {
namespace {

// Logits of a chunk take about this much: large enough for an efficient product, small beside everything else.
constexpr int64_t kLogitsBytes = int64_t{128} << 20;
constexpr int64_t kMlpTile = 4096;
constexpr int kAssumedThreads = 4;
constexpr double kKeepShare = 0.9;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t DefaultLossChunk(const ModelConfig& model) {
  const int64_t tokens = kLogitsBytes / (model.vocab_size * 4);
  return std::clamp<int64_t>(tokens / 64 * 64, 64, 4096);
}

// Time of a step on P ranks relative to one: per-token work splits evenly, attention as its fullest rank.
double RelativeTime(const ModelConfig& model, int64_t sequence_length, int ranks) {
  const HeadPlan heads(static_cast<int>(model.query_heads), static_cast<int>(model.kv_heads), ranks);
  const double all = FlopsPerToken(model, sequence_length / 2.0);
  const double attention = all - FlopsPerToken(model, 0);
  return (all - attention) / all / ranks + attention / all * heads.max_query_count() / model.query_heads;
}

int ChooseSequenceRanks(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits, int replicas) {
  const int most = static_cast<int>(
      std::min<int64_t>({limits.slots / std::max(1, replicas), model.query_heads, config.sequence_length}));
  int best = 1;
  for (int ranks = 2; ranks <= most; ++ranks) {
    if (!HeadPlan::Validate(model.query_heads, model.kv_heads, ranks).empty()) continue;
    const double gain =
        RelativeTime(model, config.sequence_length, best) / RelativeTime(model, config.sequence_length, ranks);
    if (gain > 1.02) best = ranks;
  }
  return best;
}

void CheckRanks(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits, int ranks, int replicas,
                Problems& problems) {
  const std::string invalid = HeadPlan::Validate(model.query_heads, model.kv_heads, ranks);
  if (!invalid.empty()) problems.push_back({"parallelism.sequence", invalid});
  if (ranks > config.sequence_length) {
    problems.push_back({"parallelism.sequence", std::to_string(ranks) + " ranks cannot share " +
                                                    std::to_string(config.sequence_length) + " tokens"});
  }
  const int64_t world = int64_t{ranks} * replicas;
  if (limits.slots > 0 && world > limits.slots) {
    problems.push_back({"parallelism.sequence", "the job needs " + std::to_string(world) + " slots, there are " +
                                                    std::to_string(limits.slots)});
  }
  if (config.sequence_length > model.max_positions && model.max_positions > 0) {
    problems.push_back({"data.sequence_length", std::to_string(config.sequence_length) +
                                                    " tokens are beyond the model's " +
                                                    std::to_string(model.max_positions) + " positions"});
  }
  if (config.global_batch && *config.global_batch % replicas != 0) {
    problems.push_back({"training.global_batch", std::to_string(*config.global_batch) +
                                                     " sequences do not divide among " + std::to_string(replicas) +
                                                     " replicas"});
  }
}

// What may stay between forward and backward, fastest first, where the job file leaves it open.
std::vector<MemoryPlan> Retentions(const RunConfig& config, const ModelConfig& model, const MemoryPlan& base) {
  MemoryPlan keep = base, recompute = base;
  keep.layer_inputs = LayerInputs::kKeep;
  recompute.layer_inputs = LayerInputs::kRecompute;
  const MemoryPlan segments = RecomputingAttention(model, recompute);
  std::vector<MemoryPlan> all = {keep, recompute, segments};
  std::erase_if(all, [&](const MemoryPlan& plan) {
    return (config.layer_inputs && plan.layer_inputs != *config.layer_inputs) ||
           (config.attention_outputs && plan.attention_outputs != *config.attention_outputs);
  });
  return all;
}

// What the job file fixed, and what may still be chosen, fastest first.
std::vector<MemoryPlan> Candidates(const RunConfig& config, const ModelConfig& model, const MemoryPlan& base) {
  const int64_t shard = base.padded_sequence_length / base.sequence_ranks;
  std::vector<int64_t> tiles = {0};
  if (shard > kMlpTile) tiles.push_back(kMlpTile);
  if (config.mlp_tile) tiles = {*config.mlp_tile};
  std::vector<MemoryPlan> candidates;
  std::vector<Sharding> shardings = {Sharding::kNone};
  if (base.world_size() > 1) shardings.push_back(Sharding::kOptimizer);
  if (config.sharding) shardings = {*config.sharding};
  for (const MemoryPlan& retention : Retentions(config, model, base)) {
    for (const int64_t tile : tiles) {
      for (const Sharding sharding : shardings) {
        candidates.push_back(retention);
        candidates.back().mlp_tile = tile;
        candidates.back().sharding = sharding;
      }
    }
  }
  return candidates;
}

void Charge(const ModelConfig& model, const DeviceLimits& limits, MemoryPlan& plan) {
  plan.terms = MemoryTerms(model, plan);
  plan.total_bytes = TotalBytes(plan.terms);
  plan.capacity_bytes = limits.bytes_per_slot;
  plan.fits = plan.capacity_bytes == 0 || plan.total_bytes <= plan.capacity_bytes;
}

// Keeping activations only saves time: not where memory is unknown, nor up to the last byte.
bool HasRoomToKeep(const MemoryPlan& plan) {
  if (plan.layer_inputs == LayerInputs::kRecompute) return true;
  return static_cast<double>(plan.total_bytes) <= kKeepShare * static_cast<double>(plan.capacity_bytes);
}

std::string WhyLayerInputs(const MemoryPlan& plan) {
  if (plan.layer_inputs == LayerInputs::kKeep) return "fits, and nothing is computed twice";
  if (plan.capacity_bytes == 0) return "the memory is unknown, and this takes less";
  return "keeping all activations would not fit in 90 % of the memory";
}

std::string WhyAttentionOutputs(const MemoryPlan& plan) {
  if (plan.attention_outputs == AttentionOutputs::kKeep) return "attention is not run twice";
  return "one for each layer would not fit; an input stays every " + std::to_string(plan.segment_layers) + " layers";
}

void Explain(const RunConfig& config, const ModelConfig& model, MemoryPlan& plan) {
  const auto choose = [&](bool left_open, const char* key, const std::string& value, const std::string& reason) {
    plan.choices.push_back({key, value, left_open ? reason : "given"});
  };
  const bool keep = plan.layer_inputs == LayerInputs::kKeep;
  choose(!config.device, "resources.device", plan.device == DeviceKind::kCuda ? "cuda" : "cpu", "what is there");
  choose(!config.dtype, "model.dtype", plan.dtype == DType::kFloat32 ? "float32" : "bfloat16",
         plan.device == DeviceKind::kCuda ? "bfloat16 on a GPU" : "float32 on a CPU");
  const HeadPlan heads(static_cast<int>(model.query_heads), static_cast<int>(model.kv_heads), plan.sequence_ranks);
  choose(!config.sequence_ranks, "parallelism.sequence", std::to_string(plan.sequence_ranks),
         "the fullest rank attends with " + std::to_string(heads.max_query_count()) + " of " +
             std::to_string(model.query_heads) + " heads");
  choose(!config.replicas, "parallelism.replicas", std::to_string(plan.replicas), "one sequence at a time");
  choose(!config.global_batch, "training.global_batch", std::to_string(plan.global_batch), "one sequence a replica");
  const bool sharded = plan.sharding == Sharding::kOptimizer;
  choose(!config.sharding, "memory.sharding", sharded ? "optimizer" : "none",
         sharded ? "the whole optimizer state would not fit in every rank" : "every rank has room for all of it");
  choose(!config.layer_inputs, "memory.layer_inputs", keep ? "keep" : "recompute", WhyLayerInputs(plan));
  choose(!config.attention_outputs, "memory.attention_outputs",
         plan.attention_outputs == AttentionOutputs::kKeep ? "keep" : "recompute", WhyAttentionOutputs(plan));
  choose(!config.mlp_tile, "memory.mlp_tile", plan.mlp_tile == 0 ? "all" : std::to_string(plan.mlp_tile),
         plan.mlp_tile == 0 ? "the whole shard fits" : "the whole shard at once would not fit");
  choose(!config.loss_chunk, "memory.loss_chunk", std::to_string(plan.loss_chunk), "about 128 MiB of logits");
}

}  // namespace

MemoryPlan MakePlan(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits, Problems& problems) {
  MemoryPlan base;
  base.device = config.device.value_or(limits.kind);
  base.dtype = config.dtype.value_or(base.device == DeviceKind::kCuda ? DType::kBFloat16 : DType::kFloat32);
  base.replicas = config.replicas.value_or(1);
  base.sequence_ranks = config.sequence_ranks.value_or(ChooseSequenceRanks(config, model, limits, base.replicas));
  const size_t before = problems.size();
  if (model.sliding_window > 0 && base.device == DeviceKind::kCuda && base.dtype == DType::kFloat32) {
    problems.push_back({"model.dtype", "float32 with a sliding window does not run on a GPU; use bfloat16"});
  }
  CheckRanks(config, model, limits, base.sequence_ranks, base.replicas, problems);
  if (problems.size() > before) return base;

  base.global_batch = config.global_batch.value_or(base.replicas);
  base.micro_batches = base.global_batch / base.replicas;
  base.padded_sequence_length = RoundUp(config.sequence_length, base.sequence_ranks);
  const int64_t shard = base.padded_sequence_length / base.sequence_ranks;
  base.threads = config.threads_per_rank > 0 ? config.threads_per_rank : limits.threads_per_slot;
  if (base.threads == 0) base.threads = kAssumedThreads;
  base.loss_chunk = std::min(config.loss_chunk.value_or(DefaultLossChunk(model)), shard);

  MemoryPlan chosen;
  for (MemoryPlan& candidate : Candidates(config, model, base)) {
    Charge(model, limits, candidate);
    chosen = candidate;
    if (chosen.fits && (config.layer_inputs || HasRoomToKeep(chosen))) break;
  }
  Explain(config, model, chosen);
  if (!chosen.fits) chosen.suggestion = SmallestChangeThatFits(config, model, limits, chosen);
  return chosen;
}

MemoryPlan RecomputingAttention(const ModelConfig& model, MemoryPlan plan) {
  // Per token and in elements, over all ranks, so that every rank finds the same.
  const auto kept = [&](int64_t layers) {
    const int64_t inputs = (model.layers + layers - 1) / layers + layers;
    return inputs * model.hidden_size + layers * model.query_heads * model.head_dim;
  };
  plan.layer_inputs = LayerInputs::kRecompute;
  plan.attention_outputs = AttentionOutputs::kRecompute;
  plan.segment_layers = 1;
  for (int64_t layers = 2; layers <= model.layers; ++layers) {
    if (kept(layers) < kept(plan.segment_layers)) plan.segment_layers = layers;
  }
  return plan;
}

double FlopsPerToken(const ModelConfig& model, double mean_attended_length) {
  return 6.0 * static_cast<double>(model.MatmulParameters()) +
         12.0 * static_cast<double>(model.layers * model.query_heads * model.head_dim) * mean_attended_length;
}

nlohmann::json ToJson(const MemoryPlan& plan) {
  nlohmann::json json = {
      {"dtype", plan.dtype == DType::kFloat32 ? "float32" : "bfloat16"},
      {"device", plan.device == DeviceKind::kCuda ? "cuda" : "cpu"},
      {"sequence_ranks", plan.sequence_ranks},
      {"replicas", plan.replicas},
      {"global_batch", plan.global_batch},
      {"micro_batches", plan.micro_batches},
      {"padded_sequence_length", plan.padded_sequence_length},
      {"sharding", plan.sharding == Sharding::kNone ? "none" : "optimizer"},
      {"layer_inputs", plan.layer_inputs == LayerInputs::kKeep ? "keep" : "recompute"},
      {"attention_outputs", plan.attention_outputs == AttentionOutputs::kKeep ? "keep" : "recompute"},
      {"segment_layers", plan.segment_layers},
      {"loss_chunk", plan.loss_chunk},
      {"mlp_tile", plan.mlp_tile},
      {"total_bytes", plan.total_bytes},
      {"capacity_bytes", plan.capacity_bytes},
      {"fits", plan.fits},
      {"suggestion", plan.suggestion},
      {"terms", nlohmann::json::array()},
      {"choices", nlohmann::json::array()}};
  for (const MemoryTerm& term : plan.terms) {
    json["terms"].push_back({{"name", term.name}, {"bytes", term.bytes}, {"formula", term.formula}});
  }
  for (const Choice& choice : plan.choices) {
    json["choices"].push_back({{"key", choice.key}, {"value", choice.value}, {"reason", choice.reason}});
  }
  return json;
}

}  // namespace ithaca::plan
