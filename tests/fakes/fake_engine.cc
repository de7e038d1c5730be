// An engine that plays a script instead of training: the command line, environment, events, commands, signals and exit
// codes of ithaca-engine, in a few milliseconds and without a tensor. It writes no files. Its ranks are truly
// connected: a lost peer ends the others with exit code 31, as a lost NCCL or Gloo peer does.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "tests/fakes/fake_engine_io.h"
#include "tests/fakes/fake_engine_script.h"
#include "worker/plan/exit_code.h"

namespace ithaca::fakes {
namespace {

using nlohmann::json;
using plan::ExitCode;

int EnvironmentInt(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

class FakeEngine {
 public:
  FakeEngine(Script script, EngineIo& io) : script_(std::move(script)), io_(io) {}

  int Run() {
    io_.Emit("plan", {{"sequence", io_.world_size()}, {"fits", true}});
    Play(0);
    io_.JoinPeers();
    io_.Emit("ready", {});
    io_.Emit("heartbeat", {{"step", script_.first_step - 1}, {"phase", "ready"}, {"memory", Memory(0)}});
    for (int64_t step = script_.first_step; step <= script_.steps; ++step) {
      io_.Wait(script_.step_seconds);
      if (io_.stop_requested()) return Stop(step - 1);
      Train(step);
      Play(step);
    }
    if (io_.rank() == 0) EmitCheckpoint(script_.steps);
    io_.Emit("finished", {{"step", script_.steps}, {"reason", "done"}});
    io_.LeavePeers();
    return static_cast<int>(ExitCode::kDone);
  }

 private:
  static json Memory(int64_t step) {
    return {{"allocated", 1000000 + step}, {"reserved", 2000000}, {"peak", 1500000 + step}, {"host_pinned", 0}};
  }

  void Train(int64_t step) {
    io_.Emit("heartbeat", {{"step", step}, {"phase", "forward"}, {"memory", Memory(step)}});
    if (io_.rank() != 0) return;
    io_.Emit("step", {{"step", step},
                      {"loss", script_.first_loss / static_cast<double>(step)},
                      {"grad_norm", 1.0 + 1.0 / static_cast<double>(step)},
                      {"learning_rate", 1e-5},
                      {"tokens", 4096},
                      {"target_tokens", 4095},
                      {"seconds", 0.5},
                      {"tokens_per_second", 8192.0},
                      {"mfu", 0.25},
                      {"seconds_by_phase", {{"forward", 0.2}, {"backward", 0.3}}},
                      {"memory", Memory(step)}});
    if (io_.checkpoint_requested() || (script_.checkpoint_every > 0 && step % script_.checkpoint_every == 0)) {
      EmitCheckpoint(step);
    }
  }

  void EmitCheckpoint(int64_t step) {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
    io_.Emit("checkpoint", {{"step", step}, {"path", name}, {"bytes", 1234}, {"seconds", 0.1}});
  }

  int Stop(int64_t step) {
    if (io_.rank() == 0) EmitCheckpoint(step);
    io_.Emit("finished", {{"step", step}, {"reason", "stopped"}});
    io_.LeavePeers();
    return static_cast<int>(ExitCode::kStopped);
  }

  void Play(int64_t step) {
    for (const Action& action : script_.actions) {
      if (action.at_step != step || (action.rank >= 0 && action.rank != io_.rank())) continue;
      if (action.attempt >= 0 && action.attempt != EnvironmentInt("ITHACA_ATTEMPT", 1)) continue;
      Do(action);
    }
  }

  void Do(const Action& action) {
    if (action.what == "exit") _exit(static_cast<int>(action.value));
    if (action.what == "signal") {
      ::signal(static_cast<int>(action.value), SIG_DFL);
      ::raise(static_cast<int>(action.value));
    }
    if (action.what == "fail") {
      io_.Emit("failed",
               {{"code", action.value}, {"reason", action.text}, {"message", "the script said: " + action.text}});
      _exit(static_cast<int>(action.value));
    }
    if (action.what == "hang") {
      while (true) pause();
    }
    if (action.what == "garbage") {
      for (int64_t i = 0; i < action.value; ++i) io_.Write("{\"event\": \"step\", \"step\": \xff broken\n");
      io_.Write("\n{}\n[1]\nnull\n{\"event\":7}\n{\"event\":\"step\",\"step\":\"x\"}\n");
    }
    if (action.what == "flood") {
      for (int64_t i = 0; i < action.value; ++i) io_.Emit("warning", {{"message", "flood " + std::to_string(i)}});
    }
    if (action.what == "log") std::cerr << action.text << std::endl;
    if (action.what == "ignore_sigterm") io_.IgnoreStop();
    if (action.what == "wait_for_file") {
      while (!std::filesystem::exists(action.text) && !io_.stop_requested()) io_.Wait(0.01);
    }
  }

  const Script script_;
  EngineIo& io_;
};

}  // namespace
}  // namespace ithaca::fakes

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  CLI::App app("plays a script as ithaca-engine would");
  std::string config, ignored;
  int events_fd = 1, commands_fd = -1;
  bool plan_only = false;
  app.add_option("--config", config)->required();
  app.add_option("--events-fd", events_fd);
  app.add_option("--commands-fd", commands_fd);
  app.add_option("--model-directory", ignored);
  app.add_option("--dump-gradients", ignored);
  app.add_flag("--plan-only", plan_only);
  CLI11_PARSE(app, argc, argv);

  using ithaca::fakes::EngineIo;
  EngineIo io(events_fd, commands_fd, ithaca::fakes::EnvironmentInt("RANK", 0),
              ithaca::fakes::EnvironmentInt("WORLD_SIZE", 1));
  try {
    return ithaca::fakes::FakeEngine(ithaca::fakes::LoadScript(config), io).Run();
  } catch (const std::exception& error) {
    std::cerr << "fake engine: " << error.what() << std::endl;
    return static_cast<int>(ithaca::plan::ExitCode::kInvalidConfig);
  }
}
