#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "worker/engine/batches.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/weight_files.h"
#include "worker/engine/comm/mesh.h"
#include "worker/engine/commands.h"
#include "worker/engine/data/data_source.h"
#include "worker/engine/device.h"
#include "worker/engine/events.h"
#include "worker/engine/loss/head_loss.h"
#include "worker/engine/memory/workspace.h"
#include "worker/engine/model/decoder.h"
#include "worker/engine/model/parameters.h"
#include "worker/engine/optim/adamw.h"
#include "worker/engine/optim/schedule.h"
#include "worker/engine/step_report.h"
#include "worker/plan/exit_code.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"
#include "worker/plan/run_config.h"

namespace ithaca::engine {

// What a trainer works with; everything outlives it.
struct TrainerContext {
  const plan::RunConfig& config;
  const plan::ModelConfig& model;
  const plan::MemoryPlan& plan;
  const RankDevice& device;
  Mesh& mesh;
  const DataSource& train;
  const DataSource* evaluation;  // may be null
  EventSink& events;
  Heartbeat& heartbeat;
  Requests& requests;
};

// Trains: holds the model, its optimizer and the position in the data, and takes steps. The same on every rank, in
// step: all calls are collective over the world. Owned by Run; one thread. Throws EngineError, and what the allocator
// throws.
class Trainer {
 public:
  explicit Trainer(const TrainerContext& context);

  void LoadWeights(const WeightFiles& files);

  // Goes on from a checkpoint directory. Throws EngineError when it is of another model, batch, order of the data or
  // corpus.
  void Resume(const std::string& checkpoint_path);

  // Takes steps until all are done (kDone) or a stop was asked for (kStopped); evaluates, saves and exports on the way
  // as the job says.
  plan::ExitCode Train();

  int64_t steps_done() const { return steps_done_; }

  // One step's forward and backward; rank 0 writes DIR/gradients.safetensors: summed over all ranks, not clipped.
  void DumpGradients(const std::string& directory);

 private:
  StepReport Step();
  // Adds the gradients of the micro-batches this rank has of `batch`.
  void AccumulateGradients(const GlobalBatch& batch);
  // Sums gradients and loss over all ranks, agrees on requests; throws when the loss is not finite.
  void Reduce(StepReport& report);
  void Evaluate();
  void Save();
  // This rank's part of a flat buffer: with sharding one of world size equal ones, else all of it.
  at::Tensor Part(const at::Tensor& flat) const;
  bool sharded() const { return context_.plan.sharding == plan::Sharding::kOptimizer; }
  // One kind of optimizer state of all parameters, from all ranks. With sharding it is in the gradients' buffer, which
  // has no gradients between steps, until ReleaseWhole.
  at::Tensor Whole(const at::Tensor& part);
  void ReleaseWhole();
  // The tensors of a checkpoint: weights and optimizer.
  void LoadState(const Checkpoint& checkpoint);
  void LoadOptimizerState(const Checkpoint& checkpoint);
  void Export();
  int64_t TotalSteps() const;
  int64_t UndecayedElements() const;  // of this rank's part: vectors, which come first

  TrainerContext context_;
  Workspace workspace_;
  Parameters parameters_;
  Decoder decoder_;
  HeadLoss head_loss_;
  AdamW optimizer_;
  Schedule schedule_;
  Batches batches_;
  PhaseTimer timer_;
  int64_t steps_done_ = 0;
  int64_t last_saved_step_ = -1;
  bool stop_agreed_ = false;  // by all ranks, in the last step
  bool checkpoint_agreed_ = false;
};

}  // namespace ithaca::engine
