#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/engine/data/pattern.h"

namespace ithaca::engine {

// Cuts text into the words that BPE then works on: tokenizer.json's `pre_tokenizer`, a Sequence of Split, Digits and,
// last, ByteLevel. Words are handed on as raw bytes; the byte-to-character table of ByteLevel is a bijection, so BPE
// undoes it on the vocabulary instead. Used by one thread. Throws EngineError (invalid model) naming what it cannot do.
class PreTokenizer {
 public:
  explicit PreTokenizer(const nlohmann::json& pre_tokenizer);

  using Visit = std::function<void(std::string_view word)>;

  // Calls `visit` for every word of valid UTF-8, left to right.
  void ForEachWord(std::string_view text, const Visit& visit) const { RunStage(0, text, visit); }

 private:
  enum class Behavior { kIsolated, kRemoved, kContiguous, kMergedWithPrevious, kMergedWithNext };

  // Text is cut at the matches of `pattern`, or of numeric characters where there is none.
  struct Stage {
    std::optional<Pattern> pattern;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
  };

  class Pieces;

  void Add(const nlohmann::json& part);
  void AddSplit(const nlohmann::json& part);
  void AddByteLevel(const nlohmann::json& part);
  void RunStage(size_t index, std::string_view text, const Visit& visit) const;
  void RunByteLevel(std::string_view text, const Visit& visit) const;

  std::vector<Stage> stages_;
  bool has_byte_level_ = false;
  bool add_prefix_space_ = false;
  std::optional<Pattern> byte_level_pattern_;
};

}  // namespace ithaca::engine
