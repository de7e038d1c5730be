#include "worker/agent/host_facts.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ithaca {

v1::Hello DescribeHost() {
  v1::Hello hello;
  hello.set_pid(::getpid());
  hello.set_pid_start_time(ProcessStartTicks(::getpid()));
  hello.set_cpu_cores(static_cast<int32_t>(::sysconf(_SC_NPROCESSORS_ONLN)));
  hello.set_host_memory_bytes(static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE));
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", ignored)) {
    const std::string name = entry.path().filename();
    absl::string_view number = name;
    int32_t index = 0;
    if (!absl::ConsumePrefix(&number, "nvidia") || !absl::SimpleAtoi(number, &index)) continue;
    v1::Device* device = hello.add_devices();
    device->set_kind(v1::DEVICE_KIND_CUDA);
    device->set_index(index);
  }
  return hello;
}

uint64_t ProcessStartTicks(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << file.rdbuf();
  const std::string stat = text.str();
  // The second field is the program's name in parentheses and may hold anything; the rest starts after the last one.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTicks = 19;
  uint64_t ticks = 0;
  if (fields.size() <= kStartTicks || !absl::SimpleAtoi(fields[kStartTicks], &ticks)) return 0;
  return ticks;
}

}  // namespace ithaca
