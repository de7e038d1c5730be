#include "client/job_source.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "proto/job_file.h"

namespace ithaca::client {
namespace {

namespace fs = std::filesystem;

// A config.json is a few KiB; what is larger is something else.
constexpr size_t kMaxModelConfigBytes = 1 << 20;

std::optional<std::string> ReadFile(const fs::path& path) {
  std::error_code error;
  std::ifstream file(path, std::ios::binary);
  if (!fs::is_regular_file(path, error) || !file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void MakeAbsolute(std::string* path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(*path, error);
  if (!path->empty() && !error) *path = absolute.lexically_normal().string();
}

void MakePathsAbsolute(v1::JobSpec& spec) {
  MakeAbsolute(spec.mutable_model()->mutable_path());
  for (v1::DataFile& file : *spec.mutable_data()->mutable_train()) MakeAbsolute(file.mutable_path());
  for (v1::DataFile& file : *spec.mutable_data()->mutable_eval()) MakeAbsolute(file.mutable_path());
  if (!spec.has_checkpoint()) return;
  v1::CheckpointSpec& checkpoint = *spec.mutable_checkpoint();
  MakeAbsolute(checkpoint.mutable_directory());
  if (checkpoint.resume_from() != "latest") MakeAbsolute(checkpoint.mutable_resume_from());
}

absl::Status MistakesError(const std::string& path, const FieldMistakes& mistakes) {
  std::string text = absl::StrCat(path == "-" ? "the job" : path, " has ", mistakes.size(),
                                  mistakes.size() == 1 ? " mistake" : " mistakes");
  for (const FieldMistake& mistake : mistakes) absl::StrAppend(&text, "\n  ", ToString(mistake));
  return absl::InvalidArgumentError(text);
}

}  // namespace

absl::StatusOr<LoadedJob> LoadJob(const JobSource& source, std::istream& input) {
  std::optional<std::string> text;
  if (source.path == "-") {
    text.emplace(std::istreambuf_iterator<char>(input), std::istreambuf_iterator<char>());
  } else {
    text = ReadFile(source.path);
  }
  if (!text) return absl::NotFoundError(absl::StrCat("there is no job file ", source.path, " that can be read"));
  FieldMistakes mistakes;
  LoadedJob job;
  job.spec = ParseJobFile(*text, source.overrides, mistakes);
  if (!mistakes.empty()) return MistakesError(source.path, mistakes);
  MakePathsAbsolute(job.spec);
  const auto config = ReadFile(fs::path(job.spec.model().path()) / "config.json");
  if (config && config->size() <= kMaxModelConfigBytes) job.model_config_json = *config;
  return job;
}

}  // namespace ithaca::client
