#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/engine/checkpoint/safetensors.h"

namespace ithaca::engine {

// The weights of a Hugging Face model directory: model.safetensors, or the shards that model.safetensors.index.json
// names. Owns the open files; const methods may be called from several threads. Throws EngineError (invalid model)
// when a shard is missing or lacks a tensor the index promises.
class WeightFiles {
 public:
  explicit WeightFiles(const std::string& directory);

  bool Has(const std::string& name) const { return file_of_.count(name) > 0; }
  std::vector<std::string> names() const;  // sorted
  const std::vector<int64_t>& Shape(const std::string& name) const { return Reader(name).Shape(name); }
  at::ScalarType DType(const std::string& name) const { return Reader(name).DType(name); }

  // A contiguous CPU tensor of its own memory, in the dtype of the file.
  at::Tensor Load(const std::string& name) const { return Reader(name).Load(name); }

 private:
  const SafetensorsReader& Reader(const std::string& name) const;
  void OpenShards(const std::string& index_path);

  std::string directory_;
  std::vector<SafetensorsReader> readers_;
  std::map<std::string, size_t> file_of_;  // tensor name -> index in readers_
};

}  // namespace ithaca::engine
