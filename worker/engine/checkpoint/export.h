#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "worker/engine/checkpoint/checkpoint.h"

namespace ithaca::engine {

// Writes a Hugging Face directory that transformers loads: configuration and tokenizer files of `model_directory`, and
// `tensors` (Hugging Face names) as model.safetensors, or as shards of at most `max_shard_bytes` with an index.
// config.json says the tensors' dtype and the job's RoPE scaling (plan/rope_scaling.h; "{}" for the model's own). The
// directory appears whole, in the place of one of the same name. Throws EngineError (checkpoint I/O; invalid model when
// config.json is missing).
CheckpointInfo ExportHuggingFace(const std::string& model_directory, const NamedTensors& tensors,
                                 const std::string& output_directory, const nlohmann::json& job_rope_scaling,
                                 int64_t max_shard_bytes = 5'000'000'000);

}  // namespace ithaca::engine
