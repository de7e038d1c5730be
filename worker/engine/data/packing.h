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

// Which pieces of the corpus share a sequence. Not packed: one piece each. Packed: the documents in the order of the
// epoch, end to end, cut every `sequence_length` tokens. Holds a reference to the corpus; one thread.
class Packing {
 public:
  Packing(const Corpus& corpus, int64_t sequence_length, bool packed, bool shuffle, uint64_t seed);

  int64_t sequences() const { return sequences_; }  // of an epoch; the same in every epoch

  // The pieces of sequence `index` (0 <= index < sequences()) of an epoch. Keeps the order of the last epoch asked for.
  std::vector<Piece> Pieces(int64_t epoch, int64_t index);

 private:
  void Enter(int64_t epoch);
  std::vector<Piece> PackedPieces(int64_t slot) const;

  const Corpus& corpus_;
  int64_t sequence_length_;
  bool packed_;
  bool shuffle_;
  uint64_t seed_;
  int64_t sequences_ = 0;
  std::vector<Piece> single_pieces_;  // not packed: one a sequence

  int64_t epoch_ = -1;
  std::vector<int64_t> sequence_order_;  // slot of the sequence with an index
  std::vector<int64_t> document_order_;  // packed
  std::vector<int64_t> stream_starts_;   // packed: where document_order_[k] begins in the epoch's stream of tokens
};

// Lays pieces out as one sequence of `padded_length` tokens: shifted labels, positions and document starts.
Sequence LayOut(const Corpus& corpus, const std::vector<Piece>& pieces, int64_t padded_length);

}  // namespace ithaca::engine
