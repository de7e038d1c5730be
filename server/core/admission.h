#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ithaca/v1/job.pb.h"
#include "server/core/records.h"
#include "server/core/scheduler.h"

namespace ithaca {

// What a job needs, found before it is accepted.
struct Admission {
  Demand demand;
  v1::Plan plan;
};

// Checks a job against everything that can be checked here and plans its memory. `model_config_json` is the model's
// config.json; empty: the plan is `unchecked` and only says how many ranks there will be. Pure.
// INVALID_ARGUMENT, reason INVALID_FIELDS: every mistake at once. FAILED_PRECONDITION, reason TOO_LARGE: more slots
// than `nodes` have. A plan that does not fit is no error here.
absl::StatusOr<Admission> Admit(const v1::JobSpec& spec, const std::string& model_config_json,
                                const std::vector<Node>& nodes);

// FAILED_PRECONDITION, reason DOES_NOT_FIT with the table, if the plan does not fit.
absl::Status CheckFits(const v1::Plan& plan);

// What engines of an attempt read: the job with the plan's choices, its directories and its threads filled in. The
// second attempt and those after it resume from the newest checkpoint. `checkpoints` is where checkpoints go if the job
// does not say; `has_checkpoint`: one has been recorded. INTERNAL: the plan does not go with the job.
absl::StatusOr<nlohmann::json> RunJson(const JobRecord& job, int attempt, const std::vector<NodePlacement>& placement,
                                       const std::vector<Node>& nodes, const std::filesystem::path& checkpoints,
                                       bool has_checkpoint);

}  // namespace ithaca
