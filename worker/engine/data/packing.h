#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/data/documents.h"

namespace ithaca::engine {

// Tokens [begin, end) of a corpus, all of one document.
struct Piece {
  int64_t begin;
  int64_t end;
};

// Which pieces of the corpus share a sequence. A document of at most `sequence_length` tokens is one piece; a longer
// one is cut into pieces of that length and a rest. Not packed: one piece a sequence. Packed: best fit, longest pieces
// first, so that nearly all of every sequence is filled; pieces of one length take turns from epoch to epoch. Holds a
// reference to the corpus; one thread.
class Packing {
 public:
  Packing(const Corpus& corpus, int64_t sequence_length, bool packed, bool shuffle, uint64_t seed);

  int64_t sequences() const { return sequences_; }  // of an epoch; the same in every epoch

  // The pieces of sequence `index` (0 <= index < sequences()) of an epoch. Keeps the order of the last epoch asked for.
  std::vector<Piece> Pieces(int64_t epoch, int64_t index);

 private:
  void Enter(int64_t epoch);
  // The numbers of the pieces of each sequence; among equals, those early in `order` are placed first.
  std::vector<std::vector<int64_t>> BestFit(const std::vector<int64_t>& order) const;

  int64_t sequence_length_;
  bool packed_;
  bool shuffle_;
  uint64_t seed_;
  std::vector<Piece> pieces_;  // in the order of the corpus
  int64_t sequences_ = 0;

  int64_t epoch_ = -1;
  std::vector<std::vector<int64_t>> epoch_sequences_;  // numbers of pieces
};

// Lays pieces out as one sequence of `padded_length` tokens: shifted labels, positions and document starts.
Sequence LayOut(const Corpus& corpus, const std::vector<Piece>& pieces, int64_t padded_length);

}  // namespace ithaca::engine
