#pragma once

#include <string>
#include <vector>

#include "client/client.h"

namespace ithaca::client {

// Runs `ithaca` with its arguments (without the program's name) and returns the exit code of the process. `server` is
// used where --server is not given.
int RunCommandLine(const std::vector<std::string>& arguments, const std::string& server, Terminal& terminal);

}  // namespace ithaca::client
