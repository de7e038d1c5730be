#pragma once

#include <cstdint>
#include <cstring>

// Plain loops that the compiler turns into vector code, compiled once per instruction set and chosen at load time. No
// LibTorch here; compiled with -ffp-contract=fast.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ITHACA_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ITHACA_VECTOR_CLONES
#endif

namespace ithaca::engine {

// e^x within 1.5 ulp for x in [-87.3, 88.3]; x is clamped to that range. Cody-Waite reduction, polynomial of degree 7.
__attribute__((always_inline)) inline float VectorExp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.3f ? 88.3f : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  float r = x - n * 0.693145751953125f;
  r = r - n * 1.42860682030941723e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333377e-3f;
  p = p * r + 4.16666679e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 5.0e-1f;
  const float y = (p * r) * r + r;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - 0x4B400000 + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return y * scale + scale;
}

}  // namespace ithaca::engine
