#include "worker/plan/json_section.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

namespace ithaca::plan {
namespace {

using nlohmann::json;

// Levenshtein's edit distance.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

std::string Join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

template <typename Number>
std::string Text(Number value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

}  // namespace

JsonSection::JsonSection(const json* json, std::string path, Problems& problems)
    : json_(json), path_(std::move(path)), problems_(problems) {
  if (json_ == nullptr || json_->is_null()) {
    json_ = nullptr;
  } else if (!json_->is_object()) {
    problems_.push_back({path_, "must be an object, not " + std::string(json_->type_name())});
    json_ = nullptr;
  }
}

const json* JsonSection::Get(const std::string& key) {
  known_.insert(key);
  if (json_ == nullptr) return nullptr;
  const auto found = json_->find(key);
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

bool JsonSection::Has(const std::string& key) { return Get(key) != nullptr; }

bool JsonSection::IsNull(const std::string& key) {
  known_.insert(key);
  return json_ != nullptr && json_->contains(key) && (*json_)[key].is_null();
}

JsonSection JsonSection::Child(const std::string& key) {
  return JsonSection(Get(key), path_.empty() ? key : path_ + "." + key, problems_);
}

void JsonSection::Ignore(std::initializer_list<const char*> keys) { known_.insert(keys.begin(), keys.end()); }

void JsonSection::Read(const std::string& key, std::string& out) {
  const json* value = Get(key);
  if (value == nullptr) return;
  if (value->is_string()) {
    out = value->get<std::string>();
  } else {
    AddProblem(key, "must be a string, not " + value->dump());
  }
}

void JsonSection::Read(const std::string& key, bool& out) {
  const json* value = Get(key);
  if (value == nullptr) return;
  if (value->is_boolean()) {
    out = value->get<bool>();
  } else {
    AddProblem(key, "must be true or false, not " + value->dump());
  }
}

void JsonSection::Read(const std::string& key, double& out, double low, double high) {
  const json* value = Get(key);
  if (value == nullptr) return;
  if (!value->is_number()) {
    AddProblem(key, "must be a number, not " + value->dump());
  } else if (const double number = value->get<double>(); !(number >= low && number <= high)) {
    AddProblem(key, "must be from " + Text(low) + " to " + Text(high) + ", not " + value->dump());
  } else {
    out = number;
  }
}

std::optional<int64_t> JsonSection::Integer(const std::string& key, int64_t low, int64_t high) {
  const json* value = Get(key);
  if (value == nullptr || *value == "auto") return std::nullopt;
  const bool integral =
      value->is_number_integer() || (value->is_number_float() && std::abs(value->get<double>()) < 9e15 &&
                                     std::nearbyint(value->get<double>()) == value->get<double>());
  if (!integral) {
    AddProblem(key, "must be an integer, not " + value->dump());
    return std::nullopt;
  }
  const bool too_large = value->is_number_unsigned() &&
                         value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t number = value->is_number_float() ? std::llround(value->get<double>()) : value->get<int64_t>();
  if (too_large || number < low || number > high) {
    const bool bounded = high != std::numeric_limits<int64_t>::max();
    AddProblem(key, bounded ? "must be from " + Text(low) + " to " + Text(high) + ", not " + value->dump()
                            : "must be at least " + Text(low) + ", not " + value->dump());
    return std::nullopt;
  }
  return number;
}

std::optional<size_t> JsonSection::Name(const std::string& key, const std::vector<std::string>& names,
                                        const std::vector<std::string>& refused) {
  const json* value = Get(key);
  if (value == nullptr || *value == "auto") return std::nullopt;
  if (value->is_string()) {
    const std::string name = value->get<std::string>();
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return found - names.begin();
    if (std::find(refused.begin(), refused.end(), name) != refused.end()) {
      AddProblem(key, "'" + name + "' is not implemented in this version; use " + Join(names));
      return std::nullopt;
    }
  }
  AddProblem(key, "must be one of " + Join(names) + ", not " + value->dump());
  return std::nullopt;
}

void JsonSection::Expect(const std::string& key, const std::string& only, const std::vector<std::string>& refused) {
  Name(key, {only}, refused);
}

void JsonSection::AddProblem(const std::string& key, const std::string& message) {
  problems_.push_back({path_.empty() ? key : path_ + "." + key, message});
}

void JsonSection::RefuseUnknownKeys() {
  if (json_ == nullptr) return;
  for (const auto& [key, value] : json_->items()) {
    if (known_.count(key) > 0) continue;
    const auto nearest = std::min_element(known_.begin(), known_.end(), [&key = key](const auto& a, const auto& b) {
      return EditDistance(key, a) < EditDistance(key, b);
    });
    AddProblem(key, nearest == known_.end() ? "is unknown" : "is unknown; the nearest known key is " + *nearest);
  }
}

}  // namespace ithaca::plan
