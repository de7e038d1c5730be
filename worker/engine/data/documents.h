#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/data/data_source.h"

namespace ithaca::engine {

// All documents of a run's files, in the order of the files, as one run of tokens. Immutable once read.
struct Corpus {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  // empty: every token is its own label; else labels[i] is what token i is, as a target
  std::vector<int64_t> starts;  // document d is [starts[d], starts[d+1]); the last element is ids.size()

  int64_t documents() const { return static_cast<int64_t>(starts.size()) - 1; }
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  int32_t Label(int64_t token) const { return (labels.empty() ? ids : labels)[static_cast<size_t>(token)]; }
};

// Reads every file of the options. A .txt file is one document. A line of a .jsonl file is one: an object with `text`,
// or with `input_ids` and maybe `labels` of the same length (-100: no target; unshifted, as Hugging Face has them).
// Text is tokenized with the template's special tokens and ends with the end-of-text id. Blank lines and empty texts
// are skipped.
//
// Throws EngineError: invalid data with "file:line: what" for the first bad line (not JSON, not UTF-8, ids outside the
// vocabulary, `messages`), for a path that matches no file, and for a corpus without any target; invalid config for a
// weight other than 1; invalid model for a tokenizer that does not fit.
Corpus ReadCorpus(const DataOptions& options);

}  // namespace ithaca::engine
