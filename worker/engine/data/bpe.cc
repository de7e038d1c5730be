#include "worker/engine/data/bpe.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "worker/engine/data/added_tokens.h"
#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;

constexpr size_t kRememberedWords = size_t{1} << 18;
constexpr size_t kRememberedBytes = 64;  // of a word

[[noreturn]] void Fail(const std::string& what) { throw EngineError(plan::ExitCode::kInvalidModel, what); }

// GPT-2's table: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up, in order.
std::array<int16_t, 0x144> ByteOfCharacter() {
  std::array<int16_t, 0x144> table;
  table.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[is_printable ? static_cast<size_t>(byte) : static_cast<size_t>(next++)] = static_cast<int16_t>(byte);
  }
  return table;
}

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

bool IsAbsent(const json& model, const char* key) {
  const auto found = model.find(key);
  return found == model.end() || found->is_null() || *found == "" || *found == false;
}

}  // namespace

std::optional<std::string> BytesOfToken(std::string_view token) {
  static const auto kTable = ByteOfCharacter();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const CodePoint code_point = FirstCodePoint(token.substr(at));
    if (code_point.bytes <= 0 || code_point.value >= static_cast<int32_t>(kTable.size())) return std::nullopt;
    const int16_t byte = kTable[static_cast<size_t>(code_point.value)];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += static_cast<size_t>(code_point.bytes);
  }
  return bytes;
}

Bpe::Bpe(const json& model) {
  if (model.value("type", "BPE") != "BPE")
    Fail("model type " + model.value("type", "") + " is not supported, only BPE");
  for (const char* option : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    if (!IsAbsent(model, option)) Fail(std::string("model option ") + option + " is not supported");
  }
  const json& vocabulary = model.at("vocab");
  if (!vocabulary.is_object()) Fail("the model's vocab is not an object");
  id_of_bytes_.reserve(vocabulary.size());
  for (const auto& [token, value] : vocabulary.items()) {
    const int32_t id = ParseTokenId(value);
    max_id_ = std::max(max_id_, id);
    if (auto bytes = BytesOfToken(token)) id_of_bytes_.emplace(std::move(*bytes), id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    const auto found = id_of_bytes_.find(std::string_view(&character, 1));
    id_of_byte_[static_cast<size_t>(byte)] = found == id_of_bytes_.end() ? -1 : found->second;
  }
  if (!IsAbsent(model, "unk_token")) {
    const auto unknown = model["unk_token"].get<std::string>();
    if (!vocabulary.contains(unknown)) Fail("unk_token " + unknown + " is not in the vocabulary");
    unknown_id_ = ParseTokenId(vocabulary[unknown]);
  }
  fuse_unknown_ = model.value("fuse_unk", false);
  ignore_merges_ = model.value("ignore_merges", false);
  LoadMerges(model.at("merges"));
}

void Bpe::LoadMerges(const json& merges) {
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const json& merge : merges) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        Fail("invalid merge " + merge.dump());
      AddMerge(rank++, std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1));
    } else if (merge.is_array() && merge.size() == 2) {
      AddMerge(rank++, merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      Fail("invalid merge " + merge.dump());
    }
  }
}

void Bpe::AddMerge(uint32_t rank, std::string_view left, std::string_view right) {
  const auto id_of = [&](std::string_view token) {
    const auto bytes = BytesOfToken(token);
    const auto found = bytes ? id_of_bytes_.find(*bytes) : id_of_bytes_.end();
    if (found == id_of_bytes_.end()) Fail("merge token " + std::string(token) + " is not in the vocabulary");
    return found->second;
  };
  merges_[PairKey(id_of(left), id_of(right))] = {rank, id_of(std::string(left) + std::string(right))};
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>& ids) {
  if (word.empty()) return;
  if (ignore_merges_) {
    const auto whole = id_of_bytes_.find(word);
    if (whole != id_of_bytes_.end()) return ids.push_back(whole->second);
  }
  if (word.size() > kRememberedBytes) return MergeWord(word, ids);
  const auto found = remembered_.find(word);
  if (found != remembered_.end()) {
    const auto begin = remembered_ids_.begin() + found->second.begin;
    ids.insert(ids.end(), begin, begin + found->second.count);
    return;
  }
  const size_t before = ids.size();
  MergeWord(word, ids);
  if (remembered_.size() < kRememberedWords) {
    const Span span{static_cast<uint32_t>(remembered_ids_.size()), static_cast<uint32_t>(ids.size() - before)};
    remembered_ids_.insert(remembered_ids_.end(), ids.begin() + static_cast<int64_t>(before), ids.end());
    remembered_.emplace(word, span);
  }
}

void Bpe::Start(std::string_view word) {
  symbols_.clear();
  queue_.clear();
  bool after_unknown = false;
  for (const char character : word) {
    const int32_t known = id_of_byte_[static_cast<unsigned char>(character)];
    const bool is_unknown = known < 0;
    const bool is_dropped = is_unknown && (!unknown_id_ || (fuse_unknown_ && after_unknown));
    after_unknown = is_unknown;
    if (is_dropped) continue;
    const auto index = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({is_unknown ? *unknown_id_ : known, index - 1, index + 1, true});
  }
  if (!symbols_.empty()) symbols_.back().next = -1;
}

namespace {

// std heaps keep the largest first; the candidate of lowest rank, then leftmost, is the largest.
struct ComesLater {
  template <typename Candidate>
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }
};

}  // namespace

void Bpe::Propose(int32_t left, int32_t right) {
  if (left < 0 || right < 0) return;
  const Merge* merge = FindMerge(symbols_[static_cast<size_t>(left)].id, symbols_[static_cast<size_t>(right)].id);
  if (merge == nullptr) return;
  queue_.push_back({merge->rank, left, merge->new_id});
  std::push_heap(queue_.begin(), queue_.end(), ComesLater());
}

void Bpe::Apply(const Candidate& best) {
  Symbol& left = symbols_[static_cast<size_t>(best.at)];
  if (!left.alive || left.next < 0) return;
  Symbol& right = symbols_[static_cast<size_t>(left.next)];
  // The pair may have changed since it was proposed.
  const Merge* merge = FindMerge(left.id, right.id);
  if (merge == nullptr || merge->new_id != best.new_id) return;
  left.id = best.new_id;
  left.next = right.next;
  right.alive = false;
  if (right.next >= 0) symbols_[static_cast<size_t>(right.next)].previous = best.at;
  Propose(left.previous, best.at);
  Propose(best.at, left.next);
}

void Bpe::MergeWord(std::string_view word, std::vector<int32_t>& ids) {
  Start(word);
  for (size_t i = 0; i + 1 < symbols_.size(); ++i) Propose(static_cast<int32_t>(i), static_cast<int32_t>(i + 1));
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), ComesLater());
    const Candidate best = queue_.back();
    queue_.pop_back();
    Apply(best);
  }
  for (const Symbol& symbol : symbols_) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
}

}  // namespace ithaca::engine
