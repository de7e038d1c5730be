#pragma once

#include <optional>
#include <string>

#include "ithaca/v1/worker_service.pb.h"
#include "server/core/job_state.h"
#include "server/core/live_state.h"

namespace ithaca {

// What an engine's exit means: reason and blame of DESIGN's exit codes (plan::ExitCode) and of signals, and a sentence
// with rank, host, code or signal, the engine's own words and the end of its log. Not to be asked about exit code 0.
Cause CauseOfExit(const v1::EngineExit& exit, const std::string& host);

// How an attempt failed, if it did, by all that is known so far: the exit that explains the others. Ranks that lost a
// peer (codes 30, 31) and ranks ended by our own stop explain nothing while another does; among equals, the first in
// time. `stopping`: the engines have been told to stop.
std::optional<Cause> FailureOf(const LiveState& live, bool stopping);

// Outcome of an attempt without processes: what was asked for (cancel, pause), COMPLETED, or a failure. `job` is as
// stored; `lost`: the processes went without saying how.
Cause OutcomeOf(const v1::Job& job, const LiveState& live, bool lost);

}  // namespace ithaca
