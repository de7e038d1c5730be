#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/engine/data/data_source.h"
#include "worker/engine/model/decoder.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"

namespace ithaca::engine {

// This rank's part of the sequences of one step, and what must be known of all of them before backward.
struct GlobalBatch {
  std::vector<Sequence> sequences;  // of this rank's replica, one a micro-batch
  int64_t target_tokens = 0;        // over all replicas
  int64_t tokens = 0;               // over all replicas, padding included
  double mean_attended_length = 0;  // over all replicas' tokens
};

// Where a rank stands in the mesh.
struct RankPlace {
  int replica = 0;
  int sequence_rank = 0;
};

// Cuts the sequences of a corpus into steps, replicas and shards: sequence = step * global_batch + micro * replicas +
// replica; the shard of sequence rank r is tokens [r S, (r + 1) S). Owned by the trainer; one thread.
class Batches {
 public:
  Batches(const DataSource& source, const plan::ModelConfig& model, const plan::MemoryPlan& plan, RankPlace place);

  // What step `step` (from 0) trains on.
  GlobalBatch Next(int64_t step) const;

  // The sequence for evaluation round `round` of this replica, or one without tokens when it is past `sequences`.
  Sequence ForEvaluation(int64_t round, int64_t sequences) const;

  // This rank's shard of a sequence, on the device.
  MicroBatch Shard(const Sequence& sequence, const Decoder& decoder, at::Device device) const;

 private:
  const DataSource& source_;
  const plan::MemoryPlan plan_;
  const RankPlace place_;
  int64_t window_;         // of windowed layers
  double windowed_share_;  // of the layers
};

}  // namespace ithaca::engine
