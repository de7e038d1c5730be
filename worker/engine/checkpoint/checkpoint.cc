#include "worker/engine/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kStepPrefix = "step-";
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kManifestFile = "MANIFEST.json";
constexpr std::array<const char*, 3> kFiles = {kModelFile, kOptimizerFile, kStateFile};

[[noreturn]] void Fail(const std::string& message) { throw EngineError(plan::ExitCode::kCheckpointIo, message); }

std::string StepName(int64_t step) {
  char name[40];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return name;
}

// The step of a checkpoint directory's name, or nothing for any other name.
std::optional<int64_t> StepOf(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const char* begin = name.data() + kStepPrefix.size();
  const char* end = name.data() + name.size();
  int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || StepName(step) != name) return std::nullopt;
  return step;
}

// Step directories, newest first.
std::vector<std::pair<int64_t, std::string>> StepDirectories(const std::string& directory) {
  std::vector<std::pair<int64_t, std::string>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const auto step = StepOf(entry.path().filename().string());
    if (step && entry.is_directory(error)) found.emplace_back(*step, entry.path().string());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

json ReadJson(const fs::path& path) {
  std::ifstream stream(path);
  return json::parse(stream, nullptr, /*allow_exceptions=*/false);
}

// Why the directory is no whole checkpoint; empty if it is one. Without `read_all`, sizes alone are compared.
std::string ProblemOf(const fs::path& directory, bool read_all) {
  const json manifest = ReadJson(directory / kManifestFile);
  if (!manifest.is_object() || !manifest.contains("files")) return "it has no readable " + std::string(kManifestFile);
  for (const char* name : kFiles) {
    const json& files = manifest["files"];
    if (!files.is_object() || !files.contains(name)) return std::string("its manifest lacks ") + name;
    const json& expected = files[name];
    std::error_code error;
    const auto bytes = fs::file_size(directory / name, error);
    if (error) return std::string(name) + " is missing";
    if (expected.value("bytes", json()) != json(bytes))
      return std::string(name) + " has another size than its manifest says";
    if (read_all && expected.value("sha256", json()) != json(DigestFile((directory / name).string()).sha256)) {
      return std::string(name) + " differs from the checksum in its manifest";
    }
  }
  return "";
}

FileDigest WriteText(const fs::path& path, const std::string& text) {
  DurableFile file(path.string());
  file.Write(text);
  return file.Commit();
}

// The newest `keep` up to `step` stay, the committed one first among them; broken ones are not counted and go.
void RemoveOlder(const std::string& directory, int64_t step, int64_t keep) {
  int64_t kept = 0;
  for (const auto& [other, path] : StepDirectories(directory)) {
    if (other > step) continue;
    const bool stays = other == step || (kept < keep && ProblemOf(path, /*read_all=*/false).empty());
    if (stays) {
      ++kept;
      continue;
    }
    std::error_code error;
    fs::remove_all(path, error);
    if (error) Fail("cannot remove old checkpoint " + path + ": " + error.message());
  }
}

}  // namespace

void PrepareCheckpointDirectory(const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) Fail("cannot create directory " + directory + ": " + error.message());
  TemporaryDirectory::RemoveStale(directory);
}

CheckpointWriter::CheckpointWriter(const std::string& directory, int64_t step)
    : directory_(directory), step_(step), temporary_(directory, StepName(step)) {}

void CheckpointWriter::WriteModel(const NamedTensors& model) {
  model_digest_ = WriteSafetensors((fs::path(temporary_.path()) / kModelFile).string(), model, {{"format", "pt"}});
}

void CheckpointWriter::BeginOptimizer(const std::vector<TensorSpec>& specs) {
  optimizer_.emplace((fs::path(temporary_.path()) / kOptimizerFile).string(), specs);
}

CheckpointInfo CheckpointWriter::Commit(const json& state, int64_t keep) {
  const fs::path path = temporary_.path();
  const std::array<FileDigest, 3> digests = {model_digest_, optimizer_->Commit(),
                                             WriteText(path / kStateFile, state.dump(2) + "\n")};
  CheckpointInfo info{(fs::path(directory_) / StepName(step_)).string(), 0};
  json manifest = {{"step", step_}, {"files", json::object()}};
  for (size_t i = 0; i < kFiles.size(); ++i) {
    manifest["files"][kFiles[i]] = {{"bytes", digests[i].bytes}, {"sha256", digests[i].sha256}};
    info.bytes += digests[i].bytes;
  }
  info.bytes += WriteText(path / kManifestFile, manifest.dump(2) + "\n").bytes;
  temporary_.Commit();
  RemoveOlder(directory_, step_, std::max<int64_t>(keep, 1));
  return info;
}

CheckpointInfo WriteCheckpoint(const std::string& directory, int64_t step, const NamedTensors& model,
                               const NamedTensors& optimizer, const json& state, int64_t keep) {
  CheckpointWriter writer(directory, step);
  writer.WriteModel(model);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : optimizer) specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  writer.BeginOptimizer(specs);
  writer.AppendOptimizer(optimizer);
  return writer.Commit(state, keep);
}

std::vector<std::string> AbandonNewer(const std::string& directory, int64_t step) {
  std::vector<std::string> abandoned;
  for (const auto& [other, path] : StepDirectories(directory)) {
    if (other <= step) continue;
    abandoned.push_back((fs::path(directory) / ("abandoned-" + StepName(other))).string());
    std::error_code error;
    fs::remove_all(abandoned.back(), error);
    if (error) Fail("cannot remove " + abandoned.back() + ": " + error.message());
    ReplaceDirectory(path, abandoned.back());
  }
  return abandoned;
}

std::optional<std::string> FindNewestValid(const std::string& directory) {
  for (const auto& [step, path] : StepDirectories(directory)) {
    try {
      if (ProblemOf(path, /*read_all=*/true).empty()) return path;
    } catch (const EngineError&) {
      // Unreadable is as good as not there.
    }
  }
  return std::nullopt;
}

Checkpoint ReadCheckpoint(const std::string& path) {
  const std::string problem = ProblemOf(path, /*read_all=*/true);
  if (!problem.empty()) Fail("checkpoint " + path + " cannot be used: " + problem);
  const auto code = plan::ExitCode::kCheckpointIo;
  Checkpoint checkpoint{path, SafetensorsReader((fs::path(path) / kModelFile).string(), code),
                        SafetensorsReader((fs::path(path) / kOptimizerFile).string(), code),
                        ReadJson(fs::path(path) / kStateFile)};
  if (!checkpoint.state.is_object()) Fail("checkpoint " + path + " cannot be used: state.json is not a JSON object");
  return checkpoint;
}

}  // namespace ithaca::engine
