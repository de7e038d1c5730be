#include "server/core/identifiers.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"

namespace ithaca {
namespace {

// Crockford's base 32: no i, l, o, u.
constexpr char kDigits[] = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr int kTimeDigits = 9;  // 45 bits of milliseconds: beyond the year 3000
constexpr int kRandomDigits = 5;

}  // namespace

std::string JobIds::Next(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  last_millisecond_ = std::max(absl::ToUnixMillis(now), last_millisecond_ + 1);
  std::string id = "j";
  for (int digit = kTimeDigits - 1; digit >= 0; --digit) id += kDigits[(last_millisecond_ >> (5 * digit)) & 31];
  std::random_device random;
  for (int digit = 0; digit < kRandomDigits; ++digit) id += kDigits[random() & 31];
  return id;
}

bool IsJobId(const std::string& text) {
  return text.size() == 1 + kTimeDigits + kRandomDigits && text[0] == 'j' &&
         text.find_first_not_of(kDigits, 1) == std::string::npos;
}

std::string NewToken() {
  std::random_device random;
  std::string token;
  for (int word = 0; word < 8; ++word) absl::StrAppend(&token, absl::Hex(random(), absl::kZeroPad8));
  return token;
}

bool SameSecret(const std::string& a, const std::string& b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace ithaca
