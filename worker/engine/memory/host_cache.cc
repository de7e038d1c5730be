#include "worker/engine/memory/host_cache.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>

namespace ithaca::engine {
namespace {

constexpr size_t kSmallest = size_t{256} << 10;
constexpr size_t kGrain = size_t{64} << 10;

class HostCache final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes < kSmallest ? c10::alloc_cpu(bytes) : Take((bytes + kGrain - 1) / kGrain * kGrain);
    return {data, data, &HostCache::Free, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &HostCache::Free; }

  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  void Trim() {
    const std::lock_guard lock(mutex_);
    for (const auto& [size, data] : free_) c10::free_cpu(data);
    free_.clear();
    free_bytes_ = 0;
  }

  int64_t free_bytes() {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(free_bytes_);
  }

  static HostCache& Instance() {
    static HostCache* const cache =
        new HostCache;  // tensors of other static objects may outlive any order of destruction
    return *cache;
  }

 private:
  void* Take(size_t size) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = free_.lower_bound(size);
      if (found != free_.end() && found->first <= size + size / 8) {
        void* const data = found->second;
        in_use_.emplace(data, found->first);
        free_bytes_ -= found->first;
        free_.erase(found);
        return data;
      }
    }
    void* const data = New(size);
    const std::lock_guard lock(mutex_);
    in_use_.emplace(data, size);
    return data;
  }

  void* New(size_t size) {
    try {
      return c10::alloc_cpu(size);
    } catch (const c10::Error&) {
      Trim();
      return c10::alloc_cpu(size);
    }
  }

  void Return(void* data) {
    const std::lock_guard lock(mutex_);
    const auto found = in_use_.find(data);
    if (found == in_use_.end()) return c10::free_cpu(data);
    free_.emplace(found->second, data);
    free_bytes_ += found->second;
    in_use_.erase(found);
  }

  static void Free(void* data) { Instance().Return(data); }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> in_use_;
  size_t free_bytes_ = 0;
};

}  // namespace

void InstallHostCache() { c10::SetCPUAllocator(&HostCache::Instance(), /*priority=*/1); }

void TrimHostCache() { HostCache::Instance().Trim(); }

int64_t HostCacheBytes() { return HostCache::Instance().free_bytes(); }

}  // namespace ithaca::engine
