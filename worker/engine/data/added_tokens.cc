#include "worker/engine/data/added_tokens.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

int32_t ParseTokenId(const nlohmann::json& id) {
  if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<int32_t>::max()) {
    throw EngineError(plan::ExitCode::kInvalidModel, id.dump() + " is no token id");
  }
  return id.get<int32_t>();
}

std::vector<AddedToken> ParseAddedTokens(const nlohmann::json& added_tokens) {
  std::vector<AddedToken> tokens;
  if (added_tokens.is_null()) return tokens;
  for (const auto& item : added_tokens) {
    AddedToken token;
    token.content = item.at("content").get<std::string>();
    token.id = ParseTokenId(item.at("id"));
    token.lstrip = item.value("lstrip", false);
    token.rstrip = item.value("rstrip", false);
    token.single_word = item.value("single_word", false);
    token.normalized = item.value("normalized", !item.value("special", false));
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  starts_.fill(false);
  for (size_t index = 0; index < tokens_.size(); ++index) {
    size_t node = 0;
    for (const char character : tokens_[index].content) {
      const auto byte = static_cast<unsigned char>(character);
      size_t child = Child(node, byte);
      if (child == 0) {
        child = nodes_.size();
        nodes_.emplace_back();
        nodes_[node].children.emplace_back(byte, child);
      }
      node = child;
    }
    if (node == 0) continue;
    starts_[static_cast<unsigned char>(tokens_[index].content[0])] = true;
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<int64_t>(index);
  }
}

size_t AddedTokenFinder::Child(size_t node, unsigned char byte) const {
  for (const auto& [label, child] : nodes_[node].children) {
    if (label == byte) return child;
  }
  return 0;
}

bool AddedTokenFinder::Find(std::string_view text, size_t from, Match& match) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    bool found = false;
    size_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = Child(node, static_cast<unsigned char>(text[at]));
      if (node == 0) break;
      if (nodes_[node].token >= 0) {
        match = {begin, at + 1, static_cast<size_t>(nodes_[node].token)};
        found = true;
      }
    }
    if (found) return true;
  }
  return false;
}

bool AddedTokenFinder::StandsAlone(std::string_view text, const Match& match) {
  const bool word_before = match.begin > 0 && IsWord(LastCodePoint(text.substr(0, match.begin)).value);
  const bool word_after = match.end < text.size() && IsWord(FirstCodePoint(text.substr(match.end)).value);
  return !word_before && !word_after;
}

std::pair<size_t, size_t> AddedTokenFinder::Stripped(std::string_view text, const Match& match, size_t done) const {
  size_t begin = match.begin;
  size_t end = match.end;
  if (tokens_[match.token].lstrip) {
    while (begin > 0) {
      const CodePoint before = LastCodePoint(text.substr(0, begin));
      if (!IsWhiteSpace(before.value)) break;
      begin -= static_cast<size_t>(before.bytes);
    }
    begin = std::max(begin, done);
  }
  if (tokens_[match.token].rstrip) {
    while (end < text.size()) {
      const CodePoint after = FirstCodePoint(text.substr(end));
      if (!IsWhiteSpace(after.value)) break;
      end += static_cast<size_t>(after.bytes);
    }
  }
  return {begin, end};
}

}  // namespace ithaca::engine
