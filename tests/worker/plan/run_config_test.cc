#include "worker/plan/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ithaca::plan {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::Field;

json Small() {
  return json::parse(R"({"name": "a", "model": {"path": "/m"}, "training": {"steps": 3},
                         "data": {"train": ["/d/*.txt", {"path": "/e.jsonl"}], "sequence_length": 64}})");
}

Problems ProblemsOf(const json& run) {
  Problems problems;
  ParseRunConfig(run, problems);
  return problems;
}

std::vector<std::string> PathsOf(const json& run) {
  std::vector<std::string> paths;
  for (const Problem& problem : ProblemsOf(run)) paths.push_back(problem.path);
  return paths;
}

TEST(RunConfigTest, FillsDefaultsAndLeavesAutoOpen) {
  Problems problems;
  const RunConfig config = ParseRunConfig(Small(), problems);
  ASSERT_TRUE(problems.empty()) << problems[0].path << ": " << problems[0].message;
  ASSERT_EQ(config.train.size(), 2u);
  EXPECT_EQ(config.train[0].path, "/d/*.txt");
  EXPECT_EQ(config.train[1].path, "/e.jsonl");
  EXPECT_FALSE(config.dtype.has_value());
  EXPECT_FALSE(config.layer_inputs.has_value());
  EXPECT_FALSE(config.sequence_ranks.has_value());
  EXPECT_EQ(config.learning_rate, 2.0e-5);
  EXPECT_EQ(config.schedule, ScheduleType::kCosine);
  EXPECT_EQ(config.beta2, 0.95);
  EXPECT_TRUE(config.packing);
}

TEST(RunConfigTest, NamesEveryMistakeAtOnce) {
  json run = Small();
  run["modle"] = 1;
  run["data"]["sequence_length"] = "many";
  run["training"]["learning_rate"] = -1;
  run["memory"]["sharding"] = "parameters";
  run["model"]["lora"] = {{"rank", 8}};
  const std::vector<std::string> paths = PathsOf(run);
  for (const char* path : {"modle", "data.sequence_length", "training.learning_rate", "memory.sharding"}) {
    EXPECT_THAT(paths, Contains(path));
  }
  EXPECT_THAT(paths, Contains(testing::StartsWith("model.lora")));
}

TEST(RunConfigTest, RefusesWhatThisVersionDoesNotImplement) {
  const auto with = [](const json& patch) {
    json run = Small();
    run.merge_patch(patch);
    return ProblemsOf(run);
  };
  EXPECT_FALSE(with({{"memory", {{"layer_inputs", "offload"}}}}).empty());
  EXPECT_FALSE(with({{"memory", {{"optimizer", "host"}}}}).empty());
  EXPECT_TRUE(with({{"training", {{"schedule", {{"type", "wsd"}}}}}}).empty());
  EXPECT_TRUE(with({{"model", {{"rope_scaling", {{"type", "yarn"}, {"factor", 4}}}}}}).empty());
  EXPECT_FALSE(with({{"model", {{"rope_scaling", {{"type", "yarn"}}}}}}).empty());
  EXPECT_FALSE(with({{"model", {{"rope_scaling", {{"type", "yarn"}, {"factor", 4}, {"beta", 1}}}}}}).empty());
  EXPECT_FALSE(with({{"data", {{"train", {{{"path", "/x.txt"}, {"weight", 2.0}}}}}}}).empty());
  EXPECT_TRUE(with({{"memory", {{"layer_inputs", "keep"}, {"sharding", "optimizer"}}}}).empty());
  EXPECT_TRUE(with({{"memory", {{"attention_outputs", "recompute"}}}}).empty());
  EXPECT_FALSE(with({{"memory", {{"layer_inputs", "keep"}, {"attention_outputs", "recompute"}}}}).empty());
}

TEST(RunConfigTest, NeedsStepsOrEpochs) {
  json run = Small();
  run["training"].erase("steps");
  EXPECT_FALSE(ProblemsOf(run).empty());
  run["training"]["epochs"] = 2;
  EXPECT_TRUE(ProblemsOf(run).empty());
}

TEST(RunConfigTest, SurvivesEveryWrongTypeEverywhere) {
  for (const json& wrong :
       {json(nullptr), json(1), json("x"), json(true), json::array({1}), json::object({{"x", 1}})}) {
    EXPECT_FALSE(ProblemsOf(wrong).empty());
    for (const char* key : {"name", "model", "data", "training", "memory", "parallelism", "checkpoint", "resources"}) {
      json run = Small();
      run[key] = wrong;
      ProblemsOf(run);
      for (const auto& [inner, value] : Small()["data"].items()) {
        run = Small();
        run["data"][inner] = wrong;
        ProblemsOf(run);
      }
    }
  }
}

}  // namespace
}  // namespace ithaca::plan
