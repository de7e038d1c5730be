#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "worker/plan/problem.h"

namespace ithaca::plan {

// One object of a strictly read JSON document: every key that is there must be asked for, with the right type and in
// its range; everything else becomes a Problem with its dotted path. A missing key, null, or the string "auto" for
// an optional value leaves the output as it was. Lives shorter than the JSON and the problems it was given.
class JsonSection {
 public:
  // `json` may be null (an absent section). Anything but an object is a Problem, and reads as empty.
  JsonSection(const nlohmann::json* json, std::string path, Problems& problems);

  bool Has(const std::string& key);                   // present and not null; counts as asked for
  const nlohmann::json* Get(const std::string& key);  // null if absent; counts as asked for
  bool IsNull(const std::string& key);                // present, and null; counts as asked for
  JsonSection Child(const std::string& key);
  void Ignore(std::initializer_list<const char*> keys);  // known keys of no interest here

  void Read(const std::string& key, std::string& out);
  void Read(const std::string& key, bool& out);
  void Read(const std::string& key, double& out, double low, double high);

  // Integers within [low, high]; `out` is an integer or an optional one.
  template <typename Int>
  void Read(const std::string& key, Int& out, int64_t low, int64_t high = std::numeric_limits<int64_t>::max()) {
    if (const auto value = Integer(key, low, high)) out = static_cast<typename Unwrapped<Int>::type>(*value);
  }

  // One of the names in `values`; names in `refused` are legal in a job file, but not implemented yet.
  template <typename Out, typename Enum>
  void Read(const std::string& key, Out& out, const std::vector<std::pair<std::string, Enum>>& values,
            const std::vector<std::string>& refused = {}) {
    std::vector<std::string> names;
    for (const auto& value : values) names.push_back(value.first);
    if (const auto index = Name(key, names, refused)) out = values[*index].second;
  }

  // A setting of which only `only` is implemented; the names in `refused` are known.
  void Expect(const std::string& key, const std::string& only, const std::vector<std::string>& refused);

  void AddProblem(const std::string& key, const std::string& message);

  // Adds a Problem for every key that was not asked for, naming the nearest known one. Call last.
  void RefuseUnknownKeys();

 private:
  template <typename T>
  struct Unwrapped {
    using type = T;
  };
  template <typename T>
  struct Unwrapped<std::optional<T>> {
    using type = T;
  };

  std::optional<int64_t> Integer(const std::string& key, int64_t low, int64_t high);
  std::optional<size_t> Name(const std::string& key, const std::vector<std::string>& names,
                             const std::vector<std::string>& refused);

  const nlohmann::json* json_;
  std::string path_;
  Problems& problems_;
  std::set<std::string> known_;
};

}  // namespace ithaca::plan
