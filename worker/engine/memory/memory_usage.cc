#include "worker/engine/memory/memory_usage.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "worker/engine/memory/host_cache.h"

namespace ithaca::engine {
namespace {

// A "Name:  1234 kB" line of /proc/self/status in bytes; 0 if it is not there.
MemoryUsage FromProcStatus() {
  MemoryUsage usage;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    std::istringstream words(line);
    std::string name;
    int64_t kilobytes = 0;
    words >> name >> kilobytes;
    if (name == "RssAnon:") usage.allocated = kilobytes * 1024;
    if (name == "VmRSS:") usage.reserved = kilobytes * 1024;
    if (name == "VmHWM:") usage.peak = kilobytes * 1024;
  }
  return usage;
}

MemoryUsage FromDeviceAllocator(at::Device device) {
  MemoryUsage usage;
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (allocator == nullptr || !allocator->initialized()) return usage;
  const auto stats = allocator->getDeviceStats(device.index());
  constexpr size_t kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  usage.allocated = stats.allocated_bytes[kAll].current;
  usage.reserved = stats.reserved_bytes[kAll].current;
  usage.peak = stats.allocated_bytes[kAll].peak;
  return usage;
}

// The number in a one-line cgroup file; 0 if there is none.
int64_t ReadNumber(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : 0;
}

}  // namespace

nlohmann::json ToJson(const MemoryUsage& usage) {
  return {{"allocated", usage.allocated},
          {"reserved", usage.reserved},
          {"peak", usage.peak},
          {"host_pinned", usage.host_pinned}};
}

MemoryUsage CurrentMemoryUsage(at::Device device) {
  return device.is_cpu() ? FromProcStatus() : FromDeviceAllocator(device);
}

int64_t HostMemoryLimit() {
  int64_t limit = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const int64_t value = ReadNumber(path);
    if (value > 0) limit = std::min(limit, value);
  }
  return limit;
}

void ConfigureHostAllocator() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
  mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
  InstallHostCache();
}

}  // namespace ithaca::engine
