#include "worker/engine/data/packing.h"

#include <algorithm>
#include <map>
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
    : sequence_length_(sequence_length), packed_(packed), shuffle_(shuffle), seed_(seed) {
  for (size_t d = 0; d + 1 < corpus.starts.size(); ++d) {
    for (int64_t begin = corpus.starts[d]; begin < corpus.starts[d + 1]; begin += sequence_length) {
      pieces_.push_back({begin, std::min(begin + sequence_length, corpus.starts[d + 1])});
    }
  }
  Enter(0);
  sequences_ = static_cast<int64_t>(epoch_sequences_.size());
}

std::vector<std::vector<int64_t>> Packing::BestFit(const std::vector<int64_t>& order) const {
  const auto length = [&](int64_t piece) {
    return pieces_[static_cast<size_t>(piece)].end - pieces_[static_cast<size_t>(piece)].begin;
  };
  std::vector<int64_t> longest_first = order;
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](int64_t a, int64_t b) { return length(a) > length(b); });
  std::vector<std::vector<int64_t>> sequences;
  std::map<int64_t, std::vector<size_t>> with_room;  // tokens left -> sequences
  for (const int64_t piece : longest_first) {
    const auto tightest = with_room.lower_bound(length(piece));
    int64_t left = sequence_length_ - length(piece);
    size_t sequence = sequences.size();
    if (tightest == with_room.end()) {
      sequences.emplace_back();
    } else {
      sequence = tightest->second.back();
      left = tightest->first - length(piece);
      tightest->second.pop_back();
      if (tightest->second.empty()) with_room.erase(tightest);
    }
    sequences[sequence].push_back(piece);
    if (left > 0) with_room[left].push_back(sequence);
  }
  return sequences;
}

void Packing::Enter(int64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = epoch;
  std::mt19937_64 random(Mix(seed_) ^ Mix(~static_cast<uint64_t>(epoch)));
  const std::vector<int64_t> order = Order(static_cast<int64_t>(pieces_.size()), shuffle_, random);
  if (!packed_) {
    epoch_sequences_.clear();
    for (const int64_t piece : order) epoch_sequences_.push_back({piece});
    return;
  }
  epoch_sequences_ = BestFit(order);
  if (!shuffle_) {  // as near to the order of the corpus as it gets
    for (auto& pieces : epoch_sequences_) std::sort(pieces.begin(), pieces.end());
    std::sort(epoch_sequences_.begin(), epoch_sequences_.end());
    return;
  }
  const std::vector<int64_t> turns = Order(static_cast<int64_t>(epoch_sequences_.size()), true, random);
  std::vector<std::vector<int64_t>> shuffled(epoch_sequences_.size());
  for (size_t i = 0; i < shuffled.size(); ++i) shuffled[i] = std::move(epoch_sequences_[static_cast<size_t>(turns[i])]);
  epoch_sequences_ = std::move(shuffled);
}

std::vector<Piece> Packing::Pieces(int64_t epoch, int64_t index) {
  Enter(epoch);
  std::vector<Piece> pieces;
  for (const int64_t piece : epoch_sequences_[static_cast<size_t>(index)]) {
    pieces.push_back(pieces_[static_cast<size_t>(piece)]);
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
