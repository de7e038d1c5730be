#pragma once

#include <string>
#include <string_view>

namespace ithaca {

// `text` if it has at most `max_bytes`, else its beginning of about that length, not cut inside a UTF-8 sequence, and
// "...".
std::string Shortened(std::string_view text, size_t max_bytes);

}  // namespace ithaca
