#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/engine/checkpoint/durable_file.h"
#include "worker/engine/checkpoint/safetensors.h"

namespace ithaca::engine {

// A checkpoint is a directory `step-00000200/` with model.safetensors (Hugging Face names, training dtype),
// optimizer.safetensors (fp32, "<name>.master", ".exp_avg", ".exp_avg_sq"), state.json, and MANIFEST.json with size and
// SHA-256 of each, written last. It is made under a temporary name, flushed, and renamed: it is there whole or not at
// all. A directory without manifest, or whose files differ from it, counts as not there.
//
// Called by one process (rank 0) at a time per directory. All functions throw EngineError (checkpoint I/O).

struct CheckpointInfo {
  std::string path;
  int64_t bytes = 0;
};

// An opened, verified checkpoint; tensors are read when asked for.
struct Checkpoint {
  std::string path;
  SafetensorsReader model;
  SafetensorsReader optimizer;
  nlohmann::json state;
};

// Creates the directory if it is missing and removes what crashed writers left in it. Call once before the first write.
void PrepareCheckpointDirectory(const std::string& directory);

// The checkpoint of a step as it is written, under a temporary name; removed again unless committed. One thread.
class CheckpointWriter {
 public:
  CheckpointWriter(const std::string& directory, int64_t step);

  void WriteModel(const NamedTensors& model);
  // The optimizer's tensors follow by Append, in the order of `specs`.
  void BeginOptimizer(const std::vector<TensorSpec>& specs);
  void AppendOptimizer(const NamedTensors& tensors) { optimizer_->Append(tensors); }

  // As WriteCheckpoint ends.
  CheckpointInfo Commit(const nlohmann::json& state, int64_t keep);

 private:
  std::string directory_;
  int64_t step_;
  TemporaryDirectory temporary_;
  std::optional<SafetensorsWriter> optimizer_;
  FileDigest model_digest_;
};

// Commits the checkpoint of `step` (replacing one of the same step), then removes older ones beyond the newest `keep`
// (at least this one stays). Those of later steps are left alone. On failure nothing of the new one is left behind.
CheckpointInfo WriteCheckpoint(const std::string& directory, int64_t step, const NamedTensors& model,
                               const NamedTensors& optimizer, const nlohmann::json& state, int64_t keep);

// Sets aside the checkpoints of steps above `step`, which a run that goes on from there will not pass through:
// `step-00000200` becomes `abandoned-step-00000200`, in the place of an earlier one of that name. Returns the new
// paths.
std::vector<std::string> AbandonNewer(const std::string& directory, int64_t step);

// The step directory with the highest step that is whole. Reads and hashes every byte of the candidates.
std::optional<std::string> FindNewestValid(const std::string& directory);

// Opens a step directory after checking it against its manifest.
Checkpoint ReadCheckpoint(const std::string& path);

}  // namespace ithaca::engine
