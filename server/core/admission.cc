#include "server/core/admission.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/job_file.h"
#include "proto/status_macros.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"
#include "worker/plan/plan_table.h"
#include "worker/plan/run_config.h"

namespace ithaca {
namespace {

using nlohmann::json;

constexpr size_t kMaxModelConfigBytes = 1 << 20;

// Assignments carry it, and it is read back by ParseJobFile. Names the part of the job that takes most.
void CheckSize(const json& run, FieldMistakes& mistakes) {
  const auto size = [](const json& part) { return part.dump(2, ' ', false, json::error_handler_t::replace).size(); };
  const size_t total = size(run);
  if (total <= kMaxJobFileBytes) return;
  std::string field;
  size_t most = 0;
  for (const auto& [section, parts] : run.items()) {
    const json& named = parts.is_object() ? parts : json::object({{"", parts}});
    for (const auto& [key, part] : named.items()) {
      if (size(part) <= most) continue;
      most = size(part);
      field = key.empty() ? section : absl::StrCat(section, ".", key);
    }
  }
  mistakes.push_back({field, 0,
                      absl::StrCat("makes the job too large: it is ", total, " bytes as run.json and may have ",
                                   kMaxJobFileBytes, "; write fewer, such as one path with a glob")});
}

void AddProblems(const plan::Problems& problems, const std::string& prefix, FieldMistakes& mistakes) {
  for (const plan::Problem& problem : problems) {
    const std::string field = problem.path.empty() || prefix.empty() ? absl::StrCat(prefix, problem.path)
                                                                     : absl::StrCat(prefix, ".", problem.path);
    // A mistake in a message says enough about the fields inside it.
    const bool known = std::ranges::any_of(
        mistakes, [&](const FieldMistake& old) { return old.field == field || field.starts_with(old.field + "."); });
    if (!known) mistakes.push_back({field, 0, problem.message});
  }
}

const DevicePool* LargestPool(const std::vector<Node>& nodes, v1::DeviceKind device) {
  const DevicePool* largest = nullptr;
  for (const Node& node : nodes) {
    for (const DevicePool& pool : node.pools) {
      if (pool.device != device || pool.slots == 0) continue;
      if (largest == nullptr || pool.slots > largest->slots) largest = &pool;
    }
  }
  return largest;
}

v1::DeviceKind DeviceOf(const v1::JobSpec& spec, const std::vector<Node>& nodes) {
  if (spec.resources().device() != v1::DEVICE_KIND_UNSPECIFIED) return spec.resources().device();
  return LargestPool(nodes, v1::DEVICE_KIND_CUDA) != nullptr ? v1::DEVICE_KIND_CUDA : v1::DEVICE_KIND_CPU;
}

int NodesOf(const v1::JobSpec& spec) { return spec.resources().has_nodes() ? spec.resources().nodes() : 1; }

plan::DeviceLimits LimitsOf(const v1::JobSpec& spec, v1::DeviceKind device, const std::vector<Node>& nodes) {
  plan::DeviceLimits limits;
  limits.kind = device == v1::DEVICE_KIND_CUDA ? plan::DeviceKind::kCuda : plan::DeviceKind::kCpu;
  const DevicePool* pool = LargestPool(nodes, device);
  int slots_per_node = pool != nullptr ? pool->slots : 1;
  if (spec.resources().has_slots_per_node()) slots_per_node = spec.resources().slots_per_node();
  limits.slots = NodesOf(spec) * slots_per_node;
  if (pool != nullptr) {
    limits.name = pool->device_name;
    limits.bytes_per_slot = pool->bytes_per_slot;
    limits.host_bytes_per_slot = pool->host_bytes_per_slot;
  }
  return limits;
}

v1::Plan ToProto(const plan::MemoryPlan& memory, const std::string& table) {
  v1::Plan result;
  for (const plan::MemoryTerm& term : memory.terms) {
    v1::PlanTerm& added = *result.add_terms();
    added.set_name(term.name);
    added.set_bytes(term.bytes);
    added.set_formula(term.formula);
  }
  for (const plan::Choice& choice : memory.choices) {
    v1::PlanChoice& added = *result.add_choices();
    added.set_key(choice.key);
    added.set_value(choice.value);
    added.set_reason(choice.reason);
  }
  result.set_total_bytes(memory.total_bytes);
  result.set_capacity_bytes(memory.capacity_bytes);
  result.set_fits(memory.fits);
  result.set_suggestion(memory.suggestion);
  result.set_table(table);
  result.set_sequence_ranks(memory.sequence_ranks);
  result.set_replicas(memory.replicas);
  return result;
}

// Without the model, the ranks are what the job says; where it leaves them open, as few as fill the slots it asked for.
v1::Plan Unchecked(const v1::JobSpec& spec) {
  v1::Plan plan;
  const int replicas = spec.parallelism().has_replicas() ? spec.parallelism().replicas() : 1;
  int ranks = 1;
  if (spec.resources().has_slots_per_node()) {
    ranks = std::max(1, NodesOf(spec) * spec.resources().slots_per_node() / replicas);
  } else if (!spec.parallelism().has_sequence()) {
    ranks = NodesOf(spec);
  }
  plan.set_sequence_ranks(spec.parallelism().has_sequence() ? spec.parallelism().sequence() : ranks);
  plan.set_replicas(replicas);
  plan.set_fits(true);
  plan.set_unchecked(true);
  plan.set_table("The model's config.json was not given: memory is checked by rank 0 before it allocates.\n");
  return plan;
}

v1::Plan MakePlan(const v1::JobSpec& spec, const plan::RunConfig& config, const std::string& model_config_json,
                  v1::DeviceKind device, const std::vector<Node>& nodes, FieldMistakes& mistakes) {
  if (model_config_json.empty()) return Unchecked(spec);
  const json parsed = json::parse(model_config_json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || model_config_json.size() > kMaxModelConfigBytes) {
    mistakes.push_back({"model_config_json", 0, "must be the JSON object of a config.json, at most 1 MiB"});
    return {};
  }
  plan::Problems problems;
  const plan::ModelConfig model = plan::ModelOf(config, parsed, problems);
  AddProblems(problems, "model_config_json", mistakes);
  if (!mistakes.empty()) return {};
  const plan::DeviceLimits limits = LimitsOf(spec, device, nodes);
  const plan::MemoryPlan memory = plan::MakePlan(config, model, limits, problems);
  AddProblems(problems, "", mistakes);
  if (!mistakes.empty()) return {};
  return ToProto(memory, plan::FormatPlanTable(memory, config, model, limits));
}

Demand DemandOf(const v1::JobSpec& spec, const v1::Plan& plan, v1::DeviceKind device, FieldMistakes& mistakes) {
  Demand demand{device, NodesOf(spec), 0};
  const int world = plan.sequence_ranks() * plan.replicas();
  demand.slots_per_node = spec.resources().has_slots_per_node() ? spec.resources().slots_per_node()
                                                                : (world + demand.nodes - 1) / demand.nodes;
  if (demand.slots() != world) {
    mistakes.push_back({spec.resources().has_slots_per_node() ? "resources.slots_per_node" : "resources.nodes", 0,
                        absl::StrCat("makes ", demand.slots(), " ranks on ", demand.nodes, " hosts, but sequence (",
                                     plan.sequence_ranks(), ") x replicas (", plan.replicas(), ") is ", world)});
  }
  return demand;
}

int ThreadsPerSlot(const std::vector<NodePlacement>& placement, const std::vector<Node>& nodes) {
  int threads = 0;
  for (const NodePlacement& placed : placement) {
    for (const Node& node : nodes) {
      if (node.name != placed.node) continue;
      for (const DevicePool& pool : node.pools) {
        if (pool.device != placed.device || pool.threads_per_slot == 0) continue;
        threads = threads == 0 ? pool.threads_per_slot : std::min(threads, pool.threads_per_slot);
      }
    }
  }
  return threads;
}

// The job with the choices of its plan. INTERNAL if a choice is none that a job file can make.
absl::StatusOr<v1::JobSpec> WithChoices(v1::JobSpec spec, const v1::Plan& plan) {
  spec.mutable_parallelism()->set_sequence(plan.sequence_ranks());
  spec.mutable_parallelism()->set_replicas(plan.replicas());
  std::vector<std::string> choices;
  for (const v1::PlanChoice& choice : plan.choices()) {
    // A job file says "all" by leaving the key out.
    if (choice.value() != "all") choices.push_back(absl::StrCat(choice.key(), "=", choice.value()));
  }
  if (choices.empty()) return spec;
  FieldMistakes mistakes;
  v1::JobSpec chosen = ParseJobFile(ToRunJson(spec).dump(), choices, mistakes);
  if (mistakes.empty()) return chosen;
  return MakeError(absl::StatusCode::kInternal, "PLAN_NOT_APPLICABLE",
                   absl::StrCat("the plan's choices do not go with the job: ", ToString(mistakes.front())));
}

}  // namespace

absl::StatusOr<Admission> Admit(const v1::JobSpec& spec, const std::string& model_config_json,
                                const std::vector<Node>& nodes) {
  FieldMistakes mistakes = ValidateJobSpec(spec);
  plan::Problems problems;
  const json run = ToRunJson(spec);
  const plan::RunConfig config = plan::ParseRunConfig(run, problems);
  AddProblems(problems, "", mistakes);
  if (mistakes.empty()) CheckSize(run, mistakes);
  const v1::DeviceKind device = DeviceOf(spec, nodes);
  Admission admission;
  if (mistakes.empty()) admission.plan = MakePlan(spec, config, model_config_json, device, nodes, mistakes);
  if (mistakes.empty()) admission.demand = DemandOf(spec, admission.plan, device, mistakes);
  if (!mistakes.empty()) return InvalidFields(mistakes);
  if (const std::string why = WhyNeverFits(admission.demand, nodes); !why.empty()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, "TOO_LARGE", absl::StrCat("the job ", why));
  }
  return admission;
}

absl::Status CheckFits(const v1::Plan& plan) {
  if (plan.fits()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, "DOES_NOT_FIT",
                   absl::StrCat("the job does not fit in memory. ", plan.suggestion(), "\n", plan.table()));
}

absl::StatusOr<json> RunJson(const JobRecord& job, int attempt, const std::vector<NodePlacement>& placement,
                             const std::vector<Node>& nodes, const std::filesystem::path& checkpoints,
                             bool has_checkpoint) {
  ASSIGN_OR_RETURN(v1::JobSpec spec, WithChoices(job.job.spec(), job.job.plan()));
  v1::ResourcesSpec& resources = *spec.mutable_resources();
  resources.set_device(job.demand.device);
  resources.set_nodes(job.demand.nodes);
  resources.set_slots_per_node(job.demand.slots_per_node);
  if (resources.threads_per_rank() == 0) resources.set_threads_per_rank(ThreadsPerSlot(placement, nodes));
  v1::CheckpointSpec& checkpoint = *spec.mutable_checkpoint();
  if (checkpoint.directory().empty()) checkpoint.set_directory(checkpoints.string());
  // A job that starts from somebody else's checkpoint goes on from there until it has one of its own.
  if (attempt > 1 && (has_checkpoint || checkpoint.resume_from().empty())) checkpoint.set_resume_from("latest");
  return ToRunJson(spec);
}

}  // namespace ithaca
