#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/core/attempt_files.h"

namespace ithaca {

// The lines of an attempt's event files: {"rank":0,"offset":128,"size":31,"event":{...}}. `size` is the length of the
// event as the engine wrote it, which is kept to the byte; so even one that is no JSON can be stored and told apart.
std::string ToLine(const EngineEventRecord& event);

// Reads the line at the start of `text`. Returns its length; 0: it has no end yet. `event` is left with rank -1 if the
// line is damaged, and then the length is that up to the next line.
size_t FromLine(std::string_view text, EngineEventRecord& event);

// The lines of an open file from `position` on, at most `max_events`. A last line without its end is left out.
absl::StatusOr<EventPage> ReadLines(int fd, int64_t position, int max_events);

}  // namespace ithaca
