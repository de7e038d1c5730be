#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ithaca::engine {

// Rewrites a regular expression of Oniguruma's Ruby syntax, as tokenizer.json holds it, for PCRE2 with UTF and UCP, so
// that both match the same. Throws EngineError (invalid model) naming a construct whose meaning would differ.
std::string TranslateOniguruma(const std::string& pattern);

// A compiled pattern and the memory to match with. Movable; used by one thread. Throws EngineError: invalid model when
// it does not compile, invalid data when a match needs too much memory or time.
class Pattern {
 public:
  static Pattern Regex(const std::string& oniguruma) { return Pattern(TranslateOniguruma(oniguruma), 0); }
  static Pattern Literal(const std::string& text) { return Pattern(text, PCRE2_LITERAL); }

  struct Range {
    size_t begin;
    size_t end;
  };

  // Calls `visit(Range)` for every match in valid UTF-8, left to right. As Rust's onig crate: no empty match directly
  // after a match.
  template <typename Visit>
  void ForEachMatch(std::string_view text, Visit&& visit) const {
    size_t from = 0;
    size_t last_end = std::string_view::npos;
    while (from <= text.size()) {
      const std::optional<Range> match = Search(text, from);
      if (!match) return;
      if (match->begin == match->end && match->end == last_end) {
        from = NextCharacter(text, from);
        continue;
      }
      from = last_end = match->end;
      visit(*match);
    }
  }

 private:
  Pattern(const std::string& pcre, uint32_t options);

  std::optional<Range> Search(std::string_view text, size_t from) const;
  static size_t NextCharacter(std::string_view text, size_t at);

  template <auto Free>
  struct Deleter {
    template <typename T>
    void operator()(T* pointer) const {
      Free(pointer);
    }
  };

  std::string source_;
  std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>> code_;
  std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>> match_data_;
  std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>> context_;
  std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>> jit_stack_;
  bool has_jit_ = false;
};

}  // namespace ithaca::engine
