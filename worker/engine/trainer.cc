#include "worker/engine/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/engine/errors.h"
#include "worker/engine/memory/host_cache.h"
#include "worker/engine/optim/gradient_norm.h"

namespace ithaca::engine {
namespace {

RankPlace PlaceOf(Mesh& mesh) { return {.replica = mesh.replicas().rank(), .sequence_rank = mesh.sequence().rank()}; }

at::ScalarType DTypeOf(const plan::MemoryPlan& plan) {
  return plan.dtype == plan::DType::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

}  // namespace

Trainer::Trainer(const TrainerContext& context)
    : context_(context),
      workspace_(context.device.device),
      // Padded with or without sharding: a sum over ranks depends on where the transport cuts it.
      parameters_(context.model, DTypeOf(context.plan), context.device.device, context.mesh.world().size()),
      decoder_(context.model, context.plan, parameters_, context.mesh.sequence(), workspace_),
      head_loss_(parameters_.Weight("lm_head.weight"), parameters_.Gradient("lm_head.weight"), context.plan.loss_chunk,
                 workspace_),
      optimizer_(Part(parameters_.flat_weights()), Part(parameters_.flat_gradients()), UndecayedElements(),
                 {.beta1 = context.config.beta1,
                  .beta2 = context.config.beta2,
                  .epsilon = context.config.epsilon,
                  .weight_decay = context.config.weight_decay}),
      schedule_(context.config.schedule, context.config.learning_rate, context.config.warmup_steps,
                context.config.min_ratio, TotalSteps()),
      batches_(context.train, context.model, context.plan, PlaceOf(context.mesh)),
      timer_(context.device.device) {}

void Trainer::LoadWeights(const WeightFiles& files) {
  parameters_.Load(files);
  optimizer_.CopyMasterFromWeights();
  TrimHostCache();
}

plan::ExitCode Trainer::Train() {
  const int64_t total_steps = TotalSteps();
  const int64_t save_every = context_.config.checkpoint_every_steps;
  const int64_t evaluate_every = context_.evaluation == nullptr ? 0 : context_.config.evaluate_every_steps;
  if (evaluate_every > 0 && steps_done_ == 0) Evaluate();
  while (steps_done_ < total_steps && !stop_agreed_) {
    context_.heartbeat.SetPhase("training");
    const StepReport report = Step();
    if (context_.mesh.world().rank() == 0) context_.events.Emit("step", ToJson(report));
    if (checkpoint_agreed_ || (save_every > 0 && steps_done_ % save_every == 0)) Save();
    if (stop_agreed_) continue;  // who asked wants the state saved, and soon
    if (evaluate_every > 0 && (steps_done_ % evaluate_every == 0 || steps_done_ == total_steps)) Evaluate();
  }
  if (last_saved_step_ != steps_done_) Save();
  if (steps_done_ < total_steps) return plan::ExitCode::kStopped;
  Export();
  return plan::ExitCode::kDone;
}

StepReport Trainer::Step() {
  timer_.Restart();
  const GlobalBatch batch = batches_.Next(steps_done_);
  timer_.Count("data");
  StepReport report = {.tokens = batch.tokens, .target_tokens = batch.target_tokens};
  AccumulateGradients(batch);
  Reduce(report);

  const double clip_norm = context_.config.clip_norm;
  const double clip = clip_norm > 0 && report.grad_norm > clip_norm ? clip_norm / report.grad_norm : 1.0;
  report.learning_rate = schedule_.LearningRate(steps_done_);
  optimizer_.Step(report.learning_rate, at::full({1}, clip, parameters_.flat_gradients().options()));
  if (sharded()) {
    parameters_.flat_gradients().zero_();
    context_.mesh.world().AllGather(parameters_.flat_weights());
  }
  timer_.Count("optimizer");

  context_.heartbeat.SetStep(++steps_done_);
  report.step = steps_done_;
  report.seconds = timer_.TotalSeconds();
  report.seconds_by_phase = timer_.SecondsByPhase();
  report.flops = plan::FlopsPerToken(context_.model, batch.mean_attended_length) * static_cast<double>(batch.tokens);
  report.peak_flops = context_.device.peak_flops * context_.mesh.world().size();
  report.memory = CurrentMemoryUsage(context_.device.device);
  return report;
}

void Trainer::AccumulateGradients(const GlobalBatch& batch) {
  // Of the whole global batch, known before backward: gradients only ever add.
  const double scale = 1.0 / static_cast<double>(std::max<int64_t>(batch.target_tokens, 1));
  head_loss_.Reset();
  for (const Sequence& sequence : batch.sequences) {
    const MicroBatch micro = batches_.Shard(sequence, decoder_, context_.device.device);
    timer_.Count("data");
    const at::Tensor hidden_SE = decoder_.Forward(micro);
    timer_.Count("forward", "exchange", decoder_.TakeExchangeSpans());
    decoder_.Backward(micro, head_loss_.ForwardBackward(hidden_SE, micro.labels_S, scale));
    timer_.Count("backward", "exchange", decoder_.TakeExchangeSpans());
  }
}

void Trainer::Reduce(StepReport& report) {
  Communicator& world = context_.mesh.world();
  at::Tensor& gradients = parameters_.flat_gradients();
  if (sharded()) {
    world.ReduceScatterSum(gradients);
  } else if (world.size() > 1) {
    world.AllReduceSum(gradients);
  }
  // One more collective carries the loss and what the ranks were asked for; any rank's request is everybody's.
  const bool stop = context_.requests.stop || context_.events.reader_gone();
  const bool checkpoint = context_.requests.checkpoint.exchange(false);
  at::Tensor sums =
      at::tensor({0.0, stop ? 1.0 : 0.0, checkpoint ? 1.0 : 0.0, 0.0}, at::kDouble).to(context_.device.device);
  sums.narrow(0, 0, 1).copy_(head_loss_.loss());
  if (sharded()) sums.narrow(0, 3, 1).copy_(SumOfSquares(Part(gradients)));
  if (world.size() > 1) world.AllReduceSum(sums);
  if (!sharded()) sums.narrow(0, 3, 1).copy_(SumOfSquares(gradients));
  const at::Tensor on_host = sums.cpu();
  const double* values = on_host.const_data_ptr<double>();
  report.loss = values[0];
  stop_agreed_ = values[1] > 0;
  checkpoint_agreed_ = values[2] > 0;
  report.grad_norm = std::sqrt(values[3]);
  timer_.Count("reduce");
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    throw EngineError(plan::ExitCode::kLossNotFinite,
                      "the loss or its gradient is not finite in step " + std::to_string(steps_done_ + 1) + ": loss " +
                          std::to_string(report.loss) + ", gradient norm " + std::to_string(report.grad_norm));
  }
}

void Trainer::Evaluate() {
  context_.heartbeat.SetPhase("evaluating");
  timer_.Restart();
  const int64_t available = context_.evaluation->sequences_per_epoch();
  const int64_t wanted = context_.config.evaluate_sequences;
  const int64_t sequences = wanted > 0 ? std::min(wanted, available) : available;
  const Batches batches(*context_.evaluation, context_.model, context_.plan, PlaceOf(context_.mesh));
  head_loss_.Reset();
  int64_t targets = 0;
  for (int64_t round = 0; round * context_.plan.replicas < sequences; ++round) {
    const Sequence sequence = batches.ForEvaluation(round, sequences);
    if (sequence.ids_T.empty()) continue;
    const MicroBatch micro = batches.Shard(sequence, decoder_, context_.device.device);
    head_loss_.Forward(decoder_.Forward(micro), micro.labels_S, 1.0);
    decoder_.DropState();
    if (context_.mesh.sequence().rank() == 0) targets += sequence.target_tokens;
  }
  at::Tensor sums =
      at::cat({head_loss_.loss(), at::full({1}, static_cast<double>(targets), head_loss_.loss().options())});
  if (context_.mesh.world().size() > 1) context_.mesh.world().AllReduceSum(sums);
  const at::Tensor on_host = sums.cpu();
  const double* values = on_host.const_data_ptr<double>();
  if (context_.mesh.world().rank() != 0) return;
  context_.events.Emit("eval", {{"step", steps_done_},
                                {"loss", values[0] / std::max(values[1], 1.0)},
                                {"target_tokens", static_cast<int64_t>(values[1])},
                                {"seconds", timer_.TotalSeconds()}});
}

void Trainer::DumpGradients(const std::string& directory) {
  context_.heartbeat.SetPhase("training");
  timer_.Restart();
  const GlobalBatch batch = batches_.Next(steps_done_);
  StepReport report = {.step = steps_done_ + 1, .tokens = batch.tokens, .target_tokens = batch.target_tokens};
  AccumulateGradients(batch);
  Reduce(report);
  report.learning_rate = schedule_.LearningRate(steps_done_);
  report.seconds = timer_.TotalSeconds();
  report.seconds_by_phase = timer_.SecondsByPhase();
  report.memory = CurrentMemoryUsage(context_.device.device);
  if (sharded()) context_.mesh.world().AllGather(parameters_.flat_gradients());
  if (context_.mesh.world().rank() == 0) {
    std::filesystem::create_directories(directory);
    WriteSafetensors(directory + "/gradients.safetensors", parameters_.Views(parameters_.flat_gradients()));
    context_.events.Emit("step", ToJson(report));
  }
  context_.mesh.world().Barrier();
}

at::Tensor Trainer::Part(const at::Tensor& flat) const {
  if (!sharded()) return flat;
  const int64_t count = flat.numel() / context_.mesh.world().size();
  return flat.narrow(0, context_.mesh.world().rank() * count, count);
}

int64_t Trainer::UndecayedElements() const {
  const at::Tensor part = Part(parameters_.flat_weights());
  const int64_t begin = part.storage_offset() - parameters_.flat_weights().storage_offset();
  return std::clamp<int64_t>(parameters_.vector_elements() - begin, 0, part.numel());
}

int64_t Trainer::TotalSteps() const {
  if (context_.config.steps > 0) return context_.config.steps;
  const double sequences = context_.config.epochs * static_cast<double>(context_.train.sequences_per_epoch());
  return std::max<int64_t>(1, std::llround(std::ceil(sequences / static_cast<double>(context_.plan.global_batch))));
}

}  // namespace ithaca::engine
