#include <cctype>
#include <string>
#include <string_view>

#include "worker/engine/data/pattern.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

constexpr std::string_view kWordInClass = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside a class Oniguruma looks Latin-1 up in a table that counts these six as word characters too.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

// Walks an Oniguruma pattern once and writes the PCRE2 pattern that matches the same. What differs between the two:
//   \s      Oniguruma: White_Space. PCRE2 adds U+180E.       \v      Oniguruma: U+000B. PCRE2: vertical space.
//   \w      Oniguruma: Alphabetic, M, Nd, Pc. PCRE2: L, N.    ^ $     Oniguruma: of every line.
//   \p{Han}  Oniguruma: the script. PCRE2: its extensions.
//   {n}+    Oniguruma: a repeated group. PCRE2: possessive.    [a[b]]  Oniguruma: nested classes, && intersects.
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  std::string Run() {
    while (at_ < in_.size()) {
      if (in_class_) {
        Class();
      } else {
        Outside();
      }
    }
    return std::move(out_);
  }

 private:
  bool Next(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  void Copy(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void Put(std::string_view text, size_t consumed) {
    out_ += text;
    at_ += consumed;
  }

  [[noreturn]] void Refuse(std::string_view construct) const {
    throw EngineError(plan::ExitCode::kInvalidModel, "tokenizer pattern " + std::string(in_) + " uses " +
                                                         std::string(construct) + ", which is not supported");
  }

  void Outside() {
    switch (in_[at_]) {
      case '\\':
        return Escape();
      case '[':
        in_class_ = true;
        Copy(Next("[^") ? 2 : 1);
        if (Next("]")) Refuse("an empty character class");
        return;
      case '(':
        return Group();
      case '^':
      case '$':
        Refuse("a line anchor");
      case '}':
        if (Next("}+")) Refuse("}+");
        return Copy(1);
      case '{':
        if (Next("{,")) Refuse("{,n}");
        return Copy(1);
      default:
        return Copy(1);
    }
  }

  void Class() {
    if (Next("[")) Refuse("nested character classes");
    if (Next("&&")) Refuse("intersected character classes");
    if (Next("\\")) return Escape();
    if (Next("]")) in_class_ = false;
    Copy(1);
  }

  void Group() {
    if (Next("(*")) Refuse("(*");
    if (!Next("(?")) return Copy(1);
    for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (Next(opening)) return Copy(opening.size());
    }
    Refuse(in_.substr(at_, 4));
  }

  void Escape() {
    if (at_ + 1 >= in_.size()) Refuse("a backslash at its end");
    const char letter = in_[at_ + 1];
    switch (letter) {
      case 's':
        return Put(R"(\p{White_Space})", 2);
      case 'S':
        return Put(R"(\P{White_Space})", 2);
      case 'd':
        return Put(R"(\p{Nd})", 2);
      case 'D':
        return Put(R"(\P{Nd})", 2);
      case 'w':
        return Put(in_class_ ? std::string(kWordInClass) : "[" + std::string(kWord) + "]", 2);
      case 'W':
        if (in_class_) Refuse("\\W in a character class");
        return Put("[^" + std::string(kWord) + "]", 2);
      case 'v':
        return Put(R"(\x0b)", 2);
      case 'p':
      case 'P':
        return Property();
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'x':
        return Copy(2);
      default:
        if (std::isalnum(static_cast<unsigned char>(letter)) != 0) Refuse(in_.substr(at_, 2));
        return Copy(2);
    }
  }

  // General categories (one or two letters) mean the same. A script's name alone means script extensions in PCRE2.
  void Property() {
    const size_t end = in_.find('}', at_);
    if (in_.substr(at_ + 2, 1) != "{" || end == std::string_view::npos) Refuse("\\p without braces");
    const std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    if (name.find_first_of("^:=") != std::string_view::npos) Refuse(in_.substr(at_, end + 1 - at_));
    Copy(3);
    if (name.size() > 2) out_ += "sc:";
    Copy(name.size() + 1);
  }

  std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string TranslateOniguruma(const std::string& pattern) { return Translator(pattern).Run(); }

}  // namespace ithaca::engine
