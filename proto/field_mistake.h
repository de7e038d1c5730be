#pragma once

#include <string>
#include <vector>

namespace ithaca {

// Something wrong with one field of a job.
struct FieldMistake {
  std::string field;    // where: "data.train[1].weight"; empty: the file as a whole
  int line = 0;         // from 1 in the job file; 0: there is no file, or no place in it
  std::string message;  // one clause that follows the field's name: "must be at least 1, not 0"

  bool operator==(const FieldMistake&) const = default;
};

using FieldMistakes = std::vector<FieldMistake>;

// "line 3: data.sequence_length: must be at least 2, not 1".
std::string ToString(const FieldMistake& mistake);

}  // namespace ithaca
