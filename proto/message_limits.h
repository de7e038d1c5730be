#pragma once

#include <cstddef>

namespace ithaca {

// Largest message that the coordinator sends or takes: a job file and a model's config.json are at most 1 MiB, a page
// of a list about 4 MiB, a worker's batch 3 MiB; the rest is room for what surrounds them.
inline constexpr int kMaxMessageBytes = 8 << 20;

// What those that talk to it accept: more, so that a newer coordinator may send more.
inline constexpr int kMaxReceivedBytes = 16 << 20;

// Where a page of a list ends, however few items it has.
inline constexpr size_t kPageBytes = 4 << 20;

}  // namespace ithaca
