#include "worker/engine/batches.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace ithaca::engine {
namespace {

// Sum over tokens of the number of tokens each attends to, within a window of so many if it is above 0.
double AttendedPairs(const Sequence& sequence, int64_t window) {
  double pairs = 0;
  for (size_t d = 0; d + 1 < sequence.document_starts.size(); ++d) {
    const double length = static_cast<double>(sequence.document_starts[d + 1] - sequence.document_starts[d]);
    const double growing = window > 0 ? std::min(length, static_cast<double>(window)) : length;
    pairs += growing * (growing + 1) / 2 + (length - growing) * growing;
  }
  return pairs;
}

at::Tensor ShardTensor(const std::vector<int64_t>& values_T, int64_t begin, int64_t count, at::Device device) {
  const at::Tensor view = at::from_blob(const_cast<int64_t*>(values_T.data()) + begin, {count}, at::kLong);
  return view.to(at::TensorOptions().device(device), /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

Batches::Batches(const DataSource& source, const plan::ModelConfig& model, const plan::MemoryPlan& plan,
                 RankPlace place)
    : source_(source), plan_(plan), place_(place), window_(model.sliding_window) {
  const auto windowed = std::count(model.windowed_layers.begin(), model.windowed_layers.end(), true);
  windowed_share_ = static_cast<double>(windowed) / static_cast<double>(model.layers);
}

GlobalBatch Batches::Next(int64_t step) const {
  GlobalBatch batch;
  double pairs = 0;
  for (int64_t micro = 0; micro < plan_.micro_batches; ++micro) {
    for (int replica = 0; replica < plan_.replicas; ++replica) {
      Sequence sequence = source_.Get(step * plan_.global_batch + micro * plan_.replicas + replica);
      batch.target_tokens += sequence.target_tokens;
      batch.tokens += static_cast<int64_t>(sequence.ids_T.size());
      pairs += (1 - windowed_share_) * AttendedPairs(sequence, 0) + windowed_share_ * AttendedPairs(sequence, window_);
      if (replica == place_.replica) batch.sequences.push_back(std::move(sequence));
    }
  }
  batch.mean_attended_length = pairs / static_cast<double>(batch.tokens);
  return batch;
}

Sequence Batches::ForEvaluation(int64_t round, int64_t sequences) const {
  const int64_t index = round * plan_.replicas + place_.replica;
  return index < sequences ? source_.Get(index) : Sequence();
}

MicroBatch Batches::Shard(const Sequence& sequence, const Decoder& decoder, at::Device device) const {
  const int64_t tokens = static_cast<int64_t>(sequence.ids_T.size()) / plan_.sequence_ranks;
  const int64_t begin = tokens * place_.sequence_rank;
  MicroBatch batch;
  batch.ids_S = ShardTensor(sequence.ids_T, begin, tokens, device);
  batch.labels_S = ShardTensor(sequence.labels_T, begin, tokens, device);
  batch.layers.rope = decoder.MakeRope(ShardTensor(sequence.positions_T, begin, tokens, device));
  batch.layers.documents = sequence.document_starts;
  return batch;
}

}  // namespace ithaca::engine
