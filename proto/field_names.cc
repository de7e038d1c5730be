#include "proto/field_names.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"

namespace ithaca {
namespace {

// "DataType" -> "DATA_TYPE_", as buf's rule ENUM_VALUE_PREFIX has it.
std::string ValuePrefix(const google::protobuf::EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(c) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(c);
  }
  return prefix + "_";
}

// Levenshtein distance, by rows.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string WordOf(const google::protobuf::EnumValueDescriptor& value) {
  return absl::AsciiStrToLower(value.name().substr(ValuePrefix(*value.type()).size()));
}

const google::protobuf::EnumValueDescriptor* ValueOf(const google::protobuf::EnumDescriptor& type,
                                                     const std::string& word) {
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0 && WordOf(*type.value(i)) == word) return type.value(i);
  }
  return nullptr;
}

std::vector<std::string> WordsOf(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> words;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) words.push_back(WordOf(*type.value(i)));
  }
  return words;
}

std::string Nearest(const std::string& name, const std::vector<std::string>& candidates) {
  constexpr size_t kLongestName = 64;  // what is longer is no slip of the fingers, and would cost time
  if (name.size() > kLongestName) return "";
  std::string nearest;
  size_t best = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (const size_t distance = EditDistance(name, candidate); distance < best && distance < candidate.size()) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace ithaca
