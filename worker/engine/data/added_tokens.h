#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ithaca::engine {

// One of tokenizer.json's `added_tokens`: text that is one token wherever it stands.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool lstrip = false;       // takes white space to its left along
  bool rstrip = false;       // and to its right
  bool single_word = false;  // not next to a word character
  bool normalized = false;   // looked for in normalized text
};

// A token id of tokenizer.json: a whole number from 0 below 2^31. Throws EngineError (invalid model).
int32_t ParseTokenId(const nlohmann::json& id);

// Reads the list. Throws EngineError (invalid model) on a malformed entry.
std::vector<AddedToken> ParseAddedTokens(const nlohmann::json& added_tokens);

// Finds added tokens in text: leftmost first, longest at a place. Immutable.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Calls on_text(view) and on_token(id) for the parts of `text` from left to right.
  template <typename OnText, typename OnToken>
  void Split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    size_t done = 0;
    size_t from = 0;
    Match match;
    while (Find(text, from, match)) {
      from = match.end;
      const AddedToken& token = tokens_[match.token];
      if (token.single_word && !StandsAlone(text, match)) continue;
      const auto [begin, end] = Stripped(text, match, done);
      if (done < begin) on_text(text.substr(done, begin - done));
      on_token(token.id);
      done = end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
    size_t token = 0;
  };
  struct Node {
    std::vector<std::pair<unsigned char, size_t>> children;
    int64_t token = -1;
  };

  bool Find(std::string_view text, size_t from, Match& match) const;
  size_t Child(size_t node, unsigned char byte) const;  // 0: none
  static bool StandsAlone(std::string_view text, const Match& match);
  std::pair<size_t, size_t> Stripped(std::string_view text, const Match& match, size_t done) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<bool, 256> starts_;
};

}  // namespace ithaca::engine
