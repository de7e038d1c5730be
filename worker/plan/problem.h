#pragma once

#include <string>
#include <vector>

namespace ithaca::plan {

// A mistake in an input: where it is (a dotted path such as "training.learning_rate") and one clear sentence.
struct Problem {
  std::string path;
  std::string message;
};

using Problems = std::vector<Problem>;

}  // namespace ithaca::plan
