#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/plan/run_config.h"

namespace ithaca::engine {

// Legend: T tokens of one whole sequence, over all ranks of its group.

inline constexpr int64_t kIgnoredLabel = -100;

// One sequence as every rank of its group sees it before it takes its shard. T is a multiple of
// DataOptions.multiple_of: packed, that of sequence_length; not packed, that of the document. Every vector with suffix
// _T has T elements.
struct Sequence {
  std::vector<int64_t> ids_T;        // token ids; padding is 0
  std::vector<int64_t> labels_T;     // labels_T[t] is the target after token t (already shifted), or kIgnoredLabel
  std::vector<int64_t> positions_T;  // restart at 0 with every document
  std::vector<int64_t>
      document_starts;        // 0, ..., T ascending: document d is [starts[d], starts[d+1]); padding is one at the end
  int64_t target_tokens = 0;  // labels that are not ignored
};

struct DataOptions {
  std::vector<plan::DataFile> files;    // .txt and .jsonl, paths may be globs
  std::string tokenizer_path;           // tokenizer.json; read only when a file holds text
  int64_t vocab_size = 0;               // of the model: every id lies below it
  std::optional<int64_t> eos_token_id;  // appended to every text document
  int64_t sequence_length = 0;          // tokens of documents in a sequence
  int64_t multiple_of = 1;              // sequences are padded at the right end to a multiple of this
  bool packing = true;                  // documents share a sequence; otherwise each has its own
  bool shuffle = true;
  uint64_t seed = 0;
};

// A corpus in memory, cut into sequences. Open reads and tokenizes everything; every rank does the same work and gets
// the same sequences, without communication.
//
// A document that fits a sequence is never cut; a longer one is cut into whole sequences and a rest, each a document of
// its own, and only the label across the cut is lost. Packed, documents and rests share sequences by best fit; not
// packed, each has one to itself, no longer than it must be. An epoch is every sequence once; each epoch orders and
// combines them anew from the seed.
//
// Movable, used by one thread (Get keeps the order of the last epoch asked for). Memory: 4 bytes a token, 8 with given
// labels. Open throws EngineError: invalid data with file and line, invalid config for what is not supported.
class DataSource {
 public:
  static DataSource Open(const DataOptions& options);
  DataSource(DataSource&&) noexcept;
  DataSource& operator=(DataSource&&) noexcept;
  ~DataSource();

  int64_t sequences_per_epoch() const;
  int64_t tokens_per_epoch() const;  // tokens of documents, without padding

  // The sequence `index` (>= 0) of an endless stream; index / sequences_per_epoch() is the epoch. A function of the
  // options and the index alone, so a run resumes by its index.
  Sequence Get(int64_t index) const;

 private:
  struct State;
  explicit DataSource(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ithaca::engine
