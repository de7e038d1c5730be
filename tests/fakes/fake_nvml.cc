// Four GPUs that do not exist, as libnvidia-ml.so.1: device i is "fake i" with 10 - i GiB. A program that is linked
// with it finds it in the place of the driver's.

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

constexpr unsigned kDevices = 4;
constexpr int kNotFound = 6;  // NVML_ERROR_NOT_FOUND

void* HandleOf(unsigned index) { return reinterpret_cast<void*>(static_cast<uintptr_t>(index + 1)); }
unsigned IndexOf(void* handle) { return static_cast<unsigned>(reinterpret_cast<uintptr_t>(handle)) - 1; }

}  // namespace

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = kDevices;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = HandleOf(index);
  return index < kDevices ? 0 : kNotFound;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  *device = HandleOf(2);
  return std::strcmp(uuid, "GPU-two") == 0 ? 0 : kNotFound;
}

int nvmlDeviceGetName(void* device, char* name, unsigned length) {
  std::snprintf(name, length, "fake %u", IndexOf(device));
  return 0;
}

int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* memory) {
  memory[0] = (10ull - IndexOf(device)) << 30;
  return 0;
}

}  // extern "C"
