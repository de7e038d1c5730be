#include "tests/fakes/fake_engine_script.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace ithaca::fakes {
namespace {

using nlohmann::json;

json ReadJson(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return json::parse(file);
}

json FindScript(const json& run) {
  if (const char* path = std::getenv("FAKE_ENGINE_SCRIPT")) return ReadJson(path);
  if (run.contains("model") && run["model"].contains("path")) {
    const std::string path = run["model"]["path"].get<std::string>() + "/fake_engine.json";
    if (std::filesystem::exists(path)) return ReadJson(path);
  }
  return json::object();
}

// The step in a checkpoint directory's name, as in ".../step-00000004"; 0 if there is none.
int64_t StepOf(const std::string& checkpoint) {
  const size_t at = checkpoint.rfind("step-");
  return at == std::string::npos ? 0 : std::atoll(checkpoint.c_str() + at + 5);
}

Action ParseAction(const json& in) {
  Action action;
  action.at_step = in.value("at_step", int64_t{0});
  action.rank = in.value("rank", -1);
  action.attempt = in.value("attempt", -1);
  action.what = in.at("do").get<std::string>();
  action.text = in.value("text", "");
  action.value = in.value("value", int64_t{0});
  return action;
}

}  // namespace

Script LoadScript(const std::string& config_path) {
  const json run = ReadJson(config_path);
  Script script;
  if (run.contains("training")) script.steps = run["training"].value("steps", int64_t{1});
  if (run.contains("checkpoint")) {
    script.first_step = StepOf(run["checkpoint"].value("resume_from", "")) + 1;
    script.checkpoint_every = run["checkpoint"].value("every_steps", int64_t{0});
  }
  const json in = FindScript(run);
  script.steps = in.value("steps", script.steps);
  script.step_seconds = in.value("step_seconds", script.step_seconds);
  script.first_loss = in.value("first_loss", script.first_loss);
  for (const json& action : in.value("actions", json::array())) script.actions.push_back(ParseAction(action));
  return script;
}

}  // namespace ithaca::fakes
