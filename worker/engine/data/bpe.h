#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ithaca::engine {

// The byte string behind a token of a byte-level vocabulary (GPT-2's table of 256 printable characters); nothing for a
// token that has other characters, which BPE can never produce.
std::optional<std::string> BytesOfToken(std::string_view token);

// Byte-pair encoding of one word: tokenizer.json's `model` of type BPE. Merges the pair of lowest rank first, leftmost
// first among equals, as Hugging Face `tokenizers` does, in O(n log n). Remembers short words. Used by one thread.
// Throws EngineError (invalid model) naming an option it cannot do or a merge that does not fit the vocabulary.
class Bpe {
 public:
  explicit Bpe(const nlohmann::json& model);

  // Appends the ids of the word, given as raw bytes.
  void Encode(std::string_view word, std::vector<int32_t>& ids);

  int32_t max_id() const { return max_id_; }

 private:
  struct StringHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <typename Value>
  using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

  struct Merge {
    uint32_t rank;
    int32_t new_id;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;  // index, or -1
    int32_t next;
    bool alive;
  };
  struct Candidate {
    uint32_t rank;
    int32_t at;
    int32_t new_id;
  };
  struct Span {
    uint32_t begin;
    uint32_t count;
  };

  void LoadMerges(const nlohmann::json& merges);
  void AddMerge(uint32_t rank, std::string_view left, std::string_view right);
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void Start(std::string_view word);
  void Propose(int32_t left, int32_t right);
  void Apply(const Candidate& best);
  void MergeWord(std::string_view word, std::vector<int32_t>& ids);

  StringMap<int32_t> id_of_bytes_;
  std::array<int32_t, 256> id_of_byte_;
  std::unordered_map<uint64_t, Merge> merges_;  // (left id, right id) -> merge
  std::optional<int32_t> unknown_id_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  int32_t max_id_ = -1;

  StringMap<Span> remembered_;
  std::vector<int32_t> remembered_ids_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> queue_;  // a heap
};

}  // namespace ithaca::engine
