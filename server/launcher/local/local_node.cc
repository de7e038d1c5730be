#include "server/launcher/local/local_node.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/visible_devices.h"

namespace ithaca {
namespace {

struct Gpus {
  int count = 0;
  std::string name;          // of the first
  int64_t memory_bytes = 0;  // of the smallest; 0: not known
};

// Those of the installed ones that this process, and so its workers, may use.
std::vector<std::string> Visible(int installed) {
  if (installed == 0) return {};
  return VisibleDevices(std::getenv("CUDA_VISIBLE_DEVICES"), installed);
}

// The few functions of NVML that are needed, with the types of nvml.h.
class Nvml {
 public:
  Nvml() : library_(::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {}
  ~Nvml() {
    if (library_ != nullptr) ::dlclose(library_);
  }

  std::optional<Gpus> Ask() {
    if (!Call<int()>("nvmlInit_v2")) return std::nullopt;
    unsigned installed = 0;
    const bool counted = Call<int(unsigned*)>("nvmlDeviceGetCount_v2", &installed);
    Gpus gpus;
    if (counted) {
      for (const std::string& device : Visible(static_cast<int>(installed))) AddDevice(device, &gpus);
    }
    Call<int()>("nvmlShutdown");
    return counted ? std::optional<Gpus>(gpus) : std::nullopt;
  }

 private:
  struct Memory {
    unsigned long long total, free, used;
  };

  // `id`: its index by PCI bus, or its UUID.
  void AddDevice(const std::string& id, Gpus* gpus) {
    void* device = nullptr;
    char name[96] = {};
    Memory memory{};
    unsigned index = 0;
    const bool found = absl::SimpleAtoi(id, &index)
                           ? Call<int(unsigned, void**)>("nvmlDeviceGetHandleByIndex_v2", index, &device)
                           : Call<int(const char*, void**)>("nvmlDeviceGetHandleByUUID", id.c_str(), &device);
    const bool first = gpus->count++ == 0;
    if (found && first && Call<int(void*, char*, unsigned)>("nvmlDeviceGetName", device, name, sizeof name - 1)) {
      gpus->name = name;
    }
    const bool known = found && Call<int(void*, Memory*)>("nvmlDeviceGetMemoryInfo", device, &memory);
    const int64_t bytes = known ? static_cast<int64_t>(memory.total) : 0;
    gpus->memory_bytes = first ? bytes : std::min(gpus->memory_bytes, bytes);
  }

  template <typename Function, typename... Arguments>
  bool Call(const char* name, Arguments... arguments) {
    if (library_ == nullptr) return false;
    auto* function = reinterpret_cast<Function*>(::dlsym(library_, name));
    return function != nullptr && function(arguments...) == 0;
  }

  void* const library_;
};

Gpus FindGpus() {
  if (const std::optional<Gpus> gpus = Nvml().Ask()) return *gpus;
  int installed = 0;
  while (std::filesystem::exists(absl::StrCat("/dev/nvidia", installed))) ++installed;
  Gpus gpus;
  gpus.count = static_cast<int>(Visible(installed).size());
  return gpus;
}

}  // namespace

int64_t AvailableMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string key, unit; file >> key;) {
    int64_t value = 0;
    if (!(file >> value)) return 0;
    std::getline(file, unit);
    if (key == "MemAvailable:") return value * 1024;
  }
  return 0;
}

Node DescribeLocalNode(const std::string& name, int cpu_slots) {
  const Gpus gpus = FindGpus();
  if (cpu_slots < 0) cpu_slots = gpus.count > 0 ? 0 : 1;
  const int64_t memory = AvailableMemoryBytes();
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  Node node{name, {}};
  if (gpus.count > 0) {
    node.pools.push_back({v1::DEVICE_KIND_CUDA, gpus.name, gpus.count, gpus.memory_bytes, memory / gpus.count,
                          std::max(1, cores / gpus.count)});
  }
  if (cpu_slots > 0) {
    node.pools.push_back({v1::DEVICE_KIND_CPU, "cpu", cpu_slots, memory / cpu_slots, memory / cpu_slots,
                          std::max(1, cores / cpu_slots)});
  }
  return node;
}

}  // namespace ithaca
