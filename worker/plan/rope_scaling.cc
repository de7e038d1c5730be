#include "worker/plan/rope_scaling.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace ithaca::plan {
namespace {

using nlohmann::json;

constexpr double kMostPositions = 1e12;

void RequireKeys(JsonSection& section, const std::vector<const char*>& keys) {
  for (const char* key : keys) {
    if (!section.Has(key)) section.AddProblem(key, "is missing");
  }
}

void ReadLlama3(JsonSection& section, RopeScaling& scaling) {
  section.Read("low_freq_factor", scaling.low_freq_factor, 1e-6, 1e6);
  section.Read("high_freq_factor", scaling.high_freq_factor, 1e-6, 1e6);
  RequireKeys(section, {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    section.AddProblem("high_freq_factor", "must be above low_freq_factor");
  }
}

double Magnitude(double factor, double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; }

void ReadYarn(JsonSection& section, RopeScaling& scaling) {
  section.Read("beta_fast", scaling.beta_fast, 1e-6, 1e6);
  section.Read("beta_slow", scaling.beta_slow, 1e-6, 1e6);
  section.Read("truncate", scaling.truncate);
  RequireKeys(section, {"factor", "original_max_position_embeddings"});
  if (scaling.beta_fast <= scaling.beta_slow) section.AddProblem("beta_fast", "must be above beta_slow");
  double scale = 0, scale_all = 0;
  section.Read("mscale", scale, 0, 1e6);
  section.Read("mscale_all_dim", scale_all, 0, 1e6);
  scaling.attention_factor = scale > 0 && scale_all > 0
                                 ? Magnitude(scaling.factor, scale) / Magnitude(scaling.factor, scale_all)
                                 : Magnitude(scaling.factor, 1);
  section.Read("attention_factor", scaling.attention_factor, 1e-6, 1e6);
}

}  // namespace

RopeScaling ReadRopeScaling(JsonSection& section) {
  RopeScaling scaling;
  const std::vector<std::pair<std::string, RopeType>> types = {{"default", RopeType::kDefault},
                                                               {"linear", RopeType::kLinear},
                                                               {"llama3", RopeType::kLlama3},
                                                               {"yarn", RopeType::kYarn}};
  section.Read("type", scaling.type, types);  // older files
  section.Read("rope_type", scaling.type, types);
  if (scaling.type == RopeType::kDefault) return scaling;
  section.Read("factor", scaling.factor, 1.0, 1e6);
  section.Read("original_max_position_embeddings", scaling.original_positions, 1.0, kMostPositions);
  if (scaling.type == RopeType::kLinear) RequireKeys(section, {"factor"});
  if (scaling.type == RopeType::kLlama3) ReadLlama3(section, scaling);
  if (scaling.type == RopeType::kYarn) ReadYarn(section, scaling);
  return scaling;
}

json WithRopeScaling(json config, const json& job_scaling) {
  if (!config.is_object() || !job_scaling.is_object() || job_scaling.empty()) return config;
  json scaling = job_scaling;
  scaling["rope_type"] = scaling.value("type", "default");
  json positions = config.value("max_position_embeddings", json());
  if (scaling.contains("original_positions")) positions = scaling["original_positions"];
  for (const char* key : {"type", "original_positions"}) scaling.erase(key);
  scaling["original_max_position_embeddings"] = positions;
  if (scaling["rope_type"] == "llama3") {
    if (!scaling.contains("low_freq_factor")) scaling["low_freq_factor"] = 1.0;
    if (!scaling.contains("high_freq_factor")) scaling["high_freq_factor"] = 4.0;
  }
  if (positions.is_number() && scaling.contains("factor") && scaling["factor"].is_number()) {
    config["max_position_embeddings"] =
        static_cast<int64_t>(std::llround(positions.get<double>() * scaling["factor"].get<double>()));
  }
  if (config.contains("rope_parameters") && config["rope_parameters"].is_object()) {
    const json theta = config["rope_parameters"].value("rope_theta", json());
    if (!theta.is_null()) scaling["rope_theta"] = theta;
    config["rope_parameters"] = scaling;
  } else {
    config["rope_scaling"] = scaling;
  }
  return config;
}

}  // namespace ithaca::plan
