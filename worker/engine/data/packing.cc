#include "worker/engine/data/packing.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

namespace ithaca::engine {
namespace {

// SplitMix64: spreads neighbouring seeds and epochs over all of 64 bits.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// 0 ... count-1, shuffled (Fisher-Yates) if asked. std::shuffle may differ between standard libraries; this does not.
std::vector<int64_t> Order(int64_t count, bool shuffle, std::mt19937_64& random) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (size_t left = order.size(); shuffle && left > 1; --left) std::swap(order[left - 1], order[random() % left]);
  return order;
}

}  // namespace

Packing::Packing(const Corpus& corpus, int64_t sequence_length, bool packed, bool shuffle, uint64_t seed)
    : corpus_(corpus), sequence_length_(sequence_length), packed_(packed), shuffle_(shuffle), seed_(seed) {
  if (packed_) {
    sequences_ = (corpus.tokens() + sequence_length - 1) / sequence_length;
    return;
  }
  for (size_t d = 0; d + 1 < corpus.starts.size(); ++d) {
    for (int64_t begin = corpus.starts[d]; begin < corpus.starts[d + 1]; begin += sequence_length) {
      single_pieces_.push_back({begin, std::min(begin + sequence_length, corpus.starts[d + 1])});
    }
  }
  sequences_ = static_cast<int64_t>(single_pieces_.size());
}

void Packing::Enter(int64_t epoch) {
  if (epoch == epoch_) return;
  std::mt19937_64 random(Mix(seed_) ^ Mix(~static_cast<uint64_t>(epoch)));
  sequence_order_ = Order(sequences_, shuffle_, random);
  epoch_ = epoch;
  if (!packed_) return;
  document_order_ = Order(corpus_.documents(), shuffle_, random);
  stream_starts_.resize(document_order_.size());
  int64_t at = 0;
  for (size_t k = 0; k < document_order_.size(); ++k) {
    const auto document = static_cast<size_t>(document_order_[k]);
    stream_starts_[k] = at;
    at += corpus_.starts[document + 1] - corpus_.starts[document];
  }
}

std::vector<Piece> Packing::Pieces(int64_t epoch, int64_t index) {
  Enter(epoch);
  const int64_t slot = sequence_order_[static_cast<size_t>(index)];
  if (!packed_) return {single_pieces_[static_cast<size_t>(slot)]};
  return PackedPieces(slot);
}

std::vector<Piece> Packing::PackedPieces(int64_t slot) const {
  const int64_t stream_end = std::min((slot + 1) * sequence_length_, corpus_.tokens());
  int64_t at = slot * sequence_length_;
  auto k = static_cast<size_t>(std::upper_bound(stream_starts_.begin(), stream_starts_.end(), at) -
                               stream_starts_.begin() - 1);
  std::vector<Piece> pieces;
  for (; at < stream_end; ++k) {
    const auto document = static_cast<size_t>(document_order_[k]);
    const int64_t begin = corpus_.starts[document] + (at - stream_starts_[k]);
    const int64_t end = std::min(corpus_.starts[document + 1], begin + (stream_end - at));
    pieces.push_back({begin, end});
    at += end - begin;
  }
  return pieces;
}

Sequence LayOut(const Corpus& corpus, const std::vector<Piece>& pieces, int64_t padded_length) {
  Sequence sequence;
  for (auto* vector : {&sequence.ids_T, &sequence.labels_T, &sequence.positions_T}) {
    vector->reserve(static_cast<size_t>(padded_length));
  }
  for (const Piece& piece : pieces) {
    sequence.document_starts.push_back(static_cast<int64_t>(sequence.ids_T.size()));
    for (int64_t token = piece.begin; token < piece.end; ++token) {
      const int64_t label = token + 1 < piece.end ? corpus.Label(token + 1) : kIgnoredLabel;
      sequence.ids_T.push_back(corpus.ids[static_cast<size_t>(token)]);
      sequence.labels_T.push_back(label);
      sequence.positions_T.push_back(token - piece.begin);
      sequence.target_tokens += label != kIgnoredLabel ? 1 : 0;
    }
  }
  const auto length = static_cast<int64_t>(sequence.ids_T.size());
  if (length < padded_length) sequence.document_starts.push_back(length);
  for (int64_t t = length; t < padded_length; ++t) {
    sequence.ids_T.push_back(0);
    sequence.labels_T.push_back(kIgnoredLabel);
    sequence.positions_T.push_back(t - length);
  }
  sequence.document_starts.push_back(padded_length);
  return sequence;
}

}  // namespace ithaca::engine
