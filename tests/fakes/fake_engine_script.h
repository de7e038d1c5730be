#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ithaca::fakes {

// One thing a fake engine does when it comes to a step: at step 0 before it is ready, else after that step's events.
struct Action {
  int64_t at_step = 0;
  int rank = -1;     // -1: every rank
  int attempt = -1;  // -1: every attempt (the worker says which in ITHACA_ATTEMPT)
  std::string
      what;  // exit | signal | hang | garbage | flood | log | wait_for_file | ignore_sigterm | checkpoint | fail
  std::string text;   // log: what to print; wait_for_file: the file; fail: the reason; checkpoint: the step directory
  int64_t value = 0;  // exit: the code; signal: the number; garbage, flood: how many lines
};

// What a fake engine plays. Read from the JSON file in FAKE_ENGINE_SCRIPT, else from fake_engine.json in the job's
// model directory; without either it trains the job's steps and ends well.
struct Script {
  int64_t steps = 1;        // of run.json's training.steps, unless the script says otherwise
  double step_seconds = 0;  // at least this long between two steps
  double first_loss = 4.0;  // the loss of step n is first_loss / n
  int64_t first_step = 1;   // one past the checkpoint that run.json resumes from
  int64_t checkpoint_every = 0;
  std::vector<Action> actions;
};

// Reads run.json at `config_path` and the script that belongs to it. Throws std::exception on a file it cannot read.
Script LoadScript(const std::string& config_path);

}  // namespace ithaca::fakes
