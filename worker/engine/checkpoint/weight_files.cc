#include "worker/engine/checkpoint/weight_files.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Fail(const std::string& message) { throw EngineError(plan::ExitCode::kInvalidModel, message); }

}  // namespace

WeightFiles::WeightFiles(const std::string& directory) : directory_(directory) {
  const fs::path single = fs::path(directory) / "model.safetensors";
  const fs::path index = fs::path(directory) / "model.safetensors.index.json";
  if (fs::exists(single)) {
    readers_.emplace_back(single.string());
    for (const std::string& name : readers_[0].names()) file_of_[name] = 0;
  } else if (fs::exists(index)) {
    OpenShards(index.string());
  } else {
    Fail(directory + " holds neither model.safetensors nor model.safetensors.index.json");
  }
}

void WeightFiles::OpenShards(const std::string& index_path) {
  std::ifstream stream(index_path);
  const nlohmann::json index = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    Fail(index_path + " is not a JSON object with a weight_map");
  }
  std::map<std::string, size_t> reader_of;
  for (const auto& [name, file] : index["weight_map"].items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || fs::path(shard).filename() != shard) {
      Fail(index_path + " names no file of its directory for tensor " + name);
    }
    const auto [position, is_new] = reader_of.try_emplace(shard, readers_.size());
    if (is_new) readers_.emplace_back((fs::path(directory_) / shard).string());
    if (!readers_[position->second].Has(name)) {
      Fail(readers_[position->second].path() + " lacks tensor " + name + ", which " + index_path + " promises");
    }
    file_of_[name] = position->second;
  }
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

const SafetensorsReader& WeightFiles::Reader(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) Fail(directory_ + " has no tensor " + name);
  return readers_[found->second];
}

}  // namespace ithaca::engine
