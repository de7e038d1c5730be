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
// peer (codes 30, 31) explain nothing while another exit does; ranks ended by our own stop never do; among equals, the
// first in time.
std::optional<Cause> FailureOf(const LiveState& live);

// What to say of an attempt with AnyWorkerLost.
Cause LostWorker(const LiveState& live);

// Outcome of an attempt with AllEnded: COMPLETED, what was asked for (cancel, pause), or a failure. `job` is as stored.
Cause OutcomeOf(const v1::Job& job, const LiveState& live);

}  // namespace ithaca
