#pragma once

#include <sys/types.h>

#include <cstdint>

#include "ithaca/v1/worker_service.pb.h"

namespace ithaca {

// The part of a hello that the machine answers: this process, cores, memory, devices (GPUs by their device files; CPU
// slots are the coordinator's to count).
v1::Hello DescribeHost();

// Clock ticks from boot to the start of a process: field 22 of /proc/PID/stat. 0 when there is none.
uint64_t ProcessStartTicks(pid_t pid);

}  // namespace ithaca
