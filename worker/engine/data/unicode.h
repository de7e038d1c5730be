#pragma once

#include <cstdint>
#include <string>
#include <string_view>

// The few questions about Unicode text that tokenizers ask, answered by utf8proc. Code points follow the names of the
// Rust and Oniguruma functions that Hugging Face `tokenizers` calls.

namespace ithaca::engine {

bool IsValidUtf8(std::string_view text);

// The code point at the begin of valid, non-empty UTF-8, and its length in bytes.
struct CodePoint {
  int32_t value;
  int bytes;
};
CodePoint FirstCodePoint(std::string_view text);
CodePoint LastCodePoint(std::string_view text);

bool IsNumeric(int32_t code_point);     // general category N
bool IsWhiteSpace(int32_t code_point);  // property White_Space
bool IsWord(int32_t code_point);        // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control

// Canonical composition. Returns `text` itself where that is already composed; else the result is put into `buffer`.
std::string_view NormalizeNfc(std::string_view text, std::string& buffer);

}  // namespace ithaca::engine
