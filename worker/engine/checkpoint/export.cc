#include "worker/engine/checkpoint/export.h"

#include <ATen/ATen.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "worker/engine/errors.h"
#include "worker/plan/rope_scaling.h"

namespace ithaca::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::array<const char*, 10> kCopied = {"generation_config.json",
                                                 "tokenizer.json",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "added_tokens.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "tokenizer.model",
                                                 "chat_template.jinja",
                                                 "LICENSE"};

std::string ReadFile(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw EngineError(plan::ExitCode::kCheckpointIo, "cannot read " + path.string());
  return text;
}

int64_t WriteFile(const fs::path& path, const std::string& text) {
  DurableFile file(path.string());
  file.Write(text);
  return file.Commit().bytes;
}

const char* DTypeOf(const NamedTensors& tensors) {
  const at::ScalarType dtype = tensors.empty() ? at::kFloat : tensors.front().second.scalar_type();
  if (dtype == at::kBFloat16) return "bfloat16";
  return dtype == at::kHalf ? "float16" : "float32";
}

std::string ConfigText(const fs::path& model_directory, const NamedTensors& tensors,
                       const nlohmann::json& job_rope_scaling) {
  const fs::path path = model_directory / "config.json";
  std::ifstream stream(path);
  ordered_json config = ordered_json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    throw EngineError(plan::ExitCode::kInvalidModel, path.string() + " is missing or not a JSON object");
  }
  // transformers 5 writes `dtype`, earlier versions `torch_dtype`; both are read.
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = DTypeOf(tensors);
  const nlohmann::json scaled = plan::WithRopeScaling(nlohmann::json(config), job_rope_scaling);
  for (const char* key : {"rope_scaling", "rope_parameters", "max_position_embeddings"}) {
    if (scaled.contains(key)) config[key] = ordered_json(scaled[key]);
  }
  return config.dump(2) + "\n";
}

// Cuts the tensors, in order, into runs of at most `max_bytes` (a single larger tensor has a run of its own).
std::vector<NamedTensors> Shards(const NamedTensors& tensors, int64_t max_bytes) {
  std::vector<NamedTensors> shards(1);
  int64_t bytes = 0;
  for (const auto& item : tensors) {
    const int64_t size = static_cast<int64_t>(item.second.nbytes());
    if (!shards.back().empty() && bytes + size > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(item);
    bytes += size;
  }
  return shards;
}

int64_t WriteWeights(const fs::path& directory, const NamedTensors& tensors, int64_t max_shard_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  const std::vector<NamedTensors> shards = Shards(tensors, max_shard_bytes);
  if (shards.size() == 1) return WriteSafetensors((directory / "model.safetensors").string(), tensors, metadata).bytes;
  ordered_json weight_map = ordered_json::object();
  int64_t total = 0;
  int64_t written = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    written += WriteSafetensors((directory / name).string(), shards[i], metadata).bytes;
    for (const auto& [tensor_name, tensor] : shards[i]) {
      weight_map[tensor_name] = name;
      total += static_cast<int64_t>(tensor.nbytes());
    }
  }
  const ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  return written + WriteFile(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

CheckpointInfo ExportHuggingFace(const std::string& model_directory, const NamedTensors& tensors,
                                 const std::string& output_directory, const nlohmann::json& job_rope_scaling,
                                 int64_t max_shard_bytes) {
  const fs::path output = fs::absolute(output_directory);
  const fs::path final_path = output.has_filename() ? output : output.parent_path();
  TemporaryDirectory temporary(final_path.parent_path().string(), final_path.filename().string());
  const fs::path directory = temporary.path();
  CheckpointInfo info{final_path.string(), 0};
  info.bytes += WriteFile(directory / "config.json", ConfigText(model_directory, tensors, job_rope_scaling));
  for (const char* name : kCopied) {
    const fs::path source = fs::path(model_directory) / name;
    if (fs::exists(source)) info.bytes += WriteFile(directory / name, ReadFile(source));
  }
  info.bytes += WriteWeights(directory, tensors, max_shard_bytes);
  temporary.Commit();
  return info;
}

}  // namespace ithaca::engine
