#include "worker/engine/data/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;

// GPT-2's words; what ByteLevel splits by when use_regex is set.
constexpr const char* kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

[[noreturn]] void Refuse(const std::string& what) {
  throw EngineError(plan::ExitCode::kInvalidModel, "pre_tokenizer " + what + " is not supported");
}

// Calls visit(begin, end, is_match) for pieces that cover all of `text`.
template <typename Visit>
void CoverByPattern(const Pattern& pattern, std::string_view text, Visit&& visit) {
  size_t previous = 0;
  pattern.ForEachMatch(text, [&](Pattern::Range match) {
    if (previous != match.begin) visit(previous, match.begin, false);
    visit(match.begin, match.end, true);
    previous = match.end;
  });
  if (previous != text.size()) visit(previous, text.size(), false);
}

template <typename Visit>
void CoverByNumeric(std::string_view text, Visit&& visit) {
  size_t previous = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint code_point = FirstCodePoint(text.substr(at));
    const size_t end = at + static_cast<size_t>(code_point.bytes);
    if (IsNumeric(code_point.value)) {
      if (previous != at) visit(previous, at, false);
      visit(at, end, true);
      previous = end;
    }
    at = end;
  }
  if (previous != text.size()) visit(previous, text.size(), false);
}

}  // namespace

// Joins the covering pieces of a text as a Split's behavior asks and passes on those that are not empty.
class PreTokenizer::Pieces {
 public:
  template <typename Emit>
  void Add(Behavior behavior, Pattern::Range piece, bool is_match, Emit&& emit) {
    const bool previous_match = previous_match_;
    previous_match_ = is_match;
    switch (behavior) {
      case Behavior::kIsolated:
        return emit(piece);
      case Behavior::kRemoved:
        if (!is_match) emit(piece);
        return;
      case Behavior::kContiguous:
        return Hold(piece, is_match == previous_match, emit);
      case Behavior::kMergedWithPrevious:
        return Hold(piece, is_match && !previous_match, emit);
      case Behavior::kMergedWithNext:
        return Hold(piece, !is_match && previous_match, emit);
    }
  }

  template <typename Emit>
  void Finish(Emit&& emit) {
    if (held_) emit(*held_);
  }

 private:
  template <typename Emit>
  void Hold(Pattern::Range piece, bool joins, Emit&& emit) {
    if (held_ && joins) {
      held_->end = piece.end;
      return;
    }
    if (held_) emit(*held_);
    held_ = piece;
  }

  std::optional<Pattern::Range> held_;
  bool previous_match_ = false;
};

PreTokenizer::PreTokenizer(const json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) Refuse("null (without ByteLevel)");
  Add(pre_tokenizer);
  if (!has_byte_level_) Refuse("without ByteLevel");
}

void PreTokenizer::Add(const json& part) {
  const std::string type = part.value("type", "");
  if (type == "Sequence") {
    for (const json& inner : part.at("pretokenizers")) Add(inner);
    return;
  }
  if (has_byte_level_) Refuse(type + " after ByteLevel");
  if (type == "Split") return AddSplit(part);
  if (type == "ByteLevel") return AddByteLevel(part);
  if (type != "Digits") Refuse(type);
  Stage stage;
  stage.behavior = part.value("individual_digits", false) ? Behavior::kIsolated : Behavior::kContiguous;
  stages_.push_back(std::move(stage));
}

void PreTokenizer::AddSplit(const json& part) {
  Stage stage;
  const json& pattern = part.at("pattern");
  if (pattern.contains("Regex")) {
    stage.pattern = Pattern::Regex(pattern["Regex"].get<std::string>());
  } else if (pattern.contains("String")) {
    stage.pattern = Pattern::Literal(pattern["String"].get<std::string>());
  } else {
    Refuse("Split by " + pattern.dump());
  }
  const std::string behavior = part.value("behavior", "");
  if (behavior == "Isolated") {
    stage.behavior = Behavior::kIsolated;
  } else if (behavior == "Removed") {
    stage.behavior = Behavior::kRemoved;
  } else if (behavior == "Contiguous") {
    stage.behavior = Behavior::kContiguous;
  } else if (behavior == "MergedWithPrevious") {
    stage.behavior = Behavior::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    stage.behavior = Behavior::kMergedWithNext;
  } else {
    Refuse("Split with behavior " + behavior);
  }
  stage.invert = part.value("invert", false);
  stages_.push_back(std::move(stage));
}

void PreTokenizer::AddByteLevel(const json& part) {
  has_byte_level_ = true;
  add_prefix_space_ = part.value("add_prefix_space", true);
  if (part.value("use_regex", true)) byte_level_pattern_ = Pattern::Regex(kGpt2Words);
}

void PreTokenizer::RunStage(size_t index, std::string_view text, const Visit& visit) const {
  if (index == stages_.size()) return RunByteLevel(text, visit);
  const Stage& stage = stages_[index];
  const auto emit = [&](Pattern::Range piece) {
    if (piece.begin != piece.end) RunStage(index + 1, text.substr(piece.begin, piece.end - piece.begin), visit);
  };
  Pieces pieces;
  const auto add = [&](size_t begin, size_t end, bool is_match) {
    pieces.Add(stage.behavior, {begin, end}, is_match != stage.invert, emit);
  };
  if (stage.pattern) {
    CoverByPattern(*stage.pattern, text, add);
  } else {
    CoverByNumeric(text, add);
  }
  pieces.Finish(emit);
}

void PreTokenizer::RunByteLevel(std::string_view text, const Visit& visit) const {
  std::string prefixed;
  if (add_prefix_space_ && !text.starts_with(' ')) {
    prefixed = " ";
    prefixed += text;
    text = prefixed;
  }
  if (!byte_level_pattern_) return visit(text);
  CoverByPattern(*byte_level_pattern_, text, [&](size_t begin, size_t end, bool) {
    if (begin != end) visit(text.substr(begin, end - begin));
  });
}

}  // namespace ithaca::engine
