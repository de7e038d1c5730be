#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/format.h"
#include "client/job_source.h"
#include "client/verbs.h"
#include "proto/job_file.h"
#include "proto/message_json.h"
#include "proto/status_macros.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/plan_table.h"

namespace ithaca::client {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct KnownGpu {
  const char* option;
  const char* name;
  int64_t mebibytes;  // what the driver reports as total
};
constexpr KnownGpu kKnownGpus[] = {
    {"a100-40gb", "NVIDIA A100 40GB", 40960}, {"a100-80gb", "NVIDIA A100 80GB", 81920},
    {"b200", "NVIDIA B200", 183359},          {"h100-80gb", "NVIDIA H100 80GB", 81559},
    {"h200", "NVIDIA H200", 143771},          {"l4", "NVIDIA L4", 23034},
    {"l40s", "NVIDIA L40S", 46068},           {"rtx-4090", "NVIDIA GeForce RTX 4090", 24564},
};

// "80GiB", "512MB", "1073741824".
absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string unit = digits == std::string::npos ? "" : text.substr(digits);
  double number = 0, factor = 0;
  for (const auto& [name, value] : {std::pair<const char*, double>{"", 1},
                                    {"B", 1},
                                    {"KB", 1e3},
                                    {"MB", 1e6},
                                    {"GB", 1e9},
                                    {"TB", 1e12},
                                    {"KiB", 1024.0},
                                    {"MiB", 1048576.0},
                                    {"GiB", 1073741824.0},
                                    {"TiB", 1099511627776.0}}) {
    if (unit == name) factor = value;
  }
  if (factor == 0 || !absl::SimpleAtod(text.substr(0, digits), &number) || number <= 0 || number * factor > 1e18) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a size; write it like 80GiB or 512MB"));
  }
  return static_cast<int64_t>(number * factor);
}

int64_t HostBytes() { return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE); }

absl::StatusOr<plan::DeviceLimits> LimitsOf(const EstimateOptions& options, const plan::RunConfig& config) {
  plan::DeviceLimits limits;
  limits.slots = options.slots > 0 ? options.slots : config.sequence_ranks.value_or(1) * config.replicas.value_or(1);
  if (config.slots_per_node && options.slots == 0) limits.slots = *config.slots_per_node * config.nodes;
  limits.name = "cpu";
  limits.host_bytes_per_slot = HostBytes() / limits.slots;
  limits.bytes_per_slot = limits.host_bytes_per_slot;
  if (!options.gpu.empty() || config.device == plan::DeviceKind::kCuda) {
    limits.kind = plan::DeviceKind::kCuda;
    limits.name = "GPU of unknown size";
    limits.bytes_per_slot = 0;
    limits.host_bytes_per_slot = 0;  // the host of the GPU is not this one
  }
  if (!options.gpu.empty()) {
    const auto* gpu = std::find_if(std::begin(kKnownGpus), std::end(kKnownGpus),
                                   [&](const KnownGpu& known) { return options.gpu == known.option; });
    if (gpu == std::end(kKnownGpus)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", options.gpu, "\" is not a GPU known here; known are ",
          absl::StrJoin(kKnownGpus, ", ", [](std::string* out, const KnownGpu& known) { out->append(known.option); }),
          "; for another give --memory instead"));
    }
    limits.name = gpu->name;
    limits.bytes_per_slot = gpu->mebibytes * kMiB;
  }
  if (!options.memory_per_slot.empty()) {
    ASSIGN_OR_RETURN(limits.bytes_per_slot, ParseBytes(options.memory_per_slot));
    if (limits.kind == plan::DeviceKind::kCpu) limits.host_bytes_per_slot = limits.bytes_per_slot;
  }
  return limits;
}

absl::Status ProblemsError(const std::string& what, const plan::Problems& problems) {
  std::string text = absl::StrCat(what, " cannot run:");
  for (const plan::Problem& problem : problems) {
    absl::StrAppend(&text, "\n  ", problem.path, problem.path.empty() ? "" : ": ", problem.message);
  }
  return absl::InvalidArgumentError(text);
}

}  // namespace

absl::StatusOr<ExitCode> Estimate(const EstimateOptions& options, OutputFormat output, Terminal& terminal) {
  ASSIGN_OR_RETURN(const LoadedJob job, LoadJob(options.source, std::cin));
  const std::string& path = job.spec.model().path();
  if (job.model_config_json.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no ", path, "/config.json that can be read; an estimate needs it"));
  }
  const nlohmann::json model_json = nlohmann::json::parse(job.model_config_json, nullptr, /*allow_exceptions=*/false);
  if (model_json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(path, "/config.json is not JSON"));
  plan::Problems problems;
  plan::RunConfig config = plan::ParseRunConfig(ToRunJson(job.spec), problems);
  const plan::ModelConfig model = plan::ModelOf(config, model_json, problems);
  if (!problems.empty()) return ProblemsError(job.spec.name(), problems);
  ASSIGN_OR_RETURN(const plan::DeviceLimits limits, LimitsOf(options, config));
  config.device = limits.kind;
  const plan::MemoryPlan memory = plan::MakePlan(config, model, limits, problems);
  if (!problems.empty()) return ProblemsError(job.spec.name(), problems);
  if (output == OutputFormat::kTable) {
    terminal.out << plan::FormatPlanTable(memory, config, model, limits);
  } else {
    const nlohmann::ordered_json json = plan::ToJson(memory);
    terminal.out << (output == OutputFormat::kJson ? ToJsonText(json) : ToYaml(json));
  }
  return memory.fits ? ExitCode::kOk : ExitCode::kDoesNotFit;
}

}  // namespace ithaca::client
