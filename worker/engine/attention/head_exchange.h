#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/engine/attention/device_moment.h"
#include "worker/engine/comm/communicator.h"
#include "worker/plan/head_plan.h"

// T tokens of the whole sequence, S = T / P of this rank; Hq, Hkv heads of the model, hq, hkv of this rank; D head
// size.

namespace ithaca::engine {

// Exchanges token shards for head shards and back: the two all-to-alls of Ulysses attention (arXiv 2309.14509,
// section 3), and their adjoints.
//
//   ToHeads:   this rank's tokens, all heads  [S, Hq + 2 Hkv, D]  ->  all tokens, this rank's heads  [T, hq + 2 hkv, D]
//   ToTokens:  all tokens, this rank's heads  [T, hq, D]          ->  this rank's tokens, all heads  [S, Hq, D]
//
// Heads need not divide the group: HeadPlan says who owns which, and a KV head goes, once, to every rank that needs it.
// Each direction is one collective that moves bits unchanged; a group of one returns its argument. Used by one thread;
// the communicator outlives it. Throws EngineError when a peer is lost.
class HeadExchange {
 public:
  // The plan is for as many ranks as the group has.
  HeadExchange(plan::HeadPlan heads, Communicator& sequence_group);

  at::Tensor ToHeads(const at::Tensor& qkv_SHD);
  at::Tensor ToTokens(const at::Tensor& out_THD);

  // d_qkv_THD [T, hq + 2 hkv, D] -> d_qkv_SHD [S, Hq + 2 Hkv, D]. The gradients of a KV head that went to several ranks
  // are added in rank order, in fp32.
  at::Tensor ToHeadsAdjoint(const at::Tensor& d_qkv_THD);
  // d_out_SHD [S, Hq, D] -> d_out_THD [T, hq, D]
  at::Tensor ToTokensAdjoint(const at::Tensor& d_out_SHD);

  const plan::HeadPlan& heads() const { return heads_; }
  // When the collectives since the last call were under way; readable once the device is through with them.
  std::vector<DeviceSpan> TakeSpans();

 private:
  enum class Parts { kQkv, kQueries };

  int64_t Width(int rank, Parts parts) const;  // heads of `rank` in a buffer
  // [S, all heads, D] -> [T, this rank's heads, D] and back; back returns what each rank sent, [S, its heads, D].
  at::Tensor SendHeads(const at::Tensor& all_SHD, Parts parts);
  std::vector<at::Tensor> SendTokens(const at::Tensor& mine_THD, Parts parts);
  void AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits);

  plan::HeadPlan heads_;
  Communicator& group_;
  std::vector<DeviceSpan> spans_;
};

}  // namespace ithaca::engine
