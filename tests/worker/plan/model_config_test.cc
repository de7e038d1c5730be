#include "worker/plan/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace ithaca::plan {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json SmolLm2() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_act", "silu"},
          {"hidden_size", 576},
          {"intermediate_size", 1536},
          {"num_hidden_layers", 30},
          {"num_attention_heads", 9},
          {"num_key_value_heads", 3},
          {"vocab_size", 49152},
          {"max_position_embeddings", 8192},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 100000.0},
          {"tie_word_embeddings", true},
          {"eos_token_id", 2}};
}

std::string AllMessages(const json& config) {
  Problems problems;
  ParseModelConfig(config, problems);
  std::string text;
  for (const Problem& problem : problems) text += problem.path + ": " + problem.message + "\n";
  return text;
}

TEST(ModelConfigTest, CountsTheParametersOfSmolLm2) {
  Problems problems;
  const ModelConfig model = ParseModelConfig(SmolLm2(), problems);
  ASSERT_TRUE(problems.empty()) << AllMessages(SmolLm2());
  EXPECT_EQ(model.head_dim, 64);
  EXPECT_EQ(model.Parameters(), 134515008);  // what transformers counts
  EXPECT_EQ(model.eos_token_id, 2);
}

TEST(ModelConfigTest, ReadsHeadSizeAndNormOfQwen3) {
  json config = SmolLm2();
  config["architectures"] = {"Qwen3ForCausalLM"};
  config["model_type"] = "qwen3";
  config["head_dim"] = 128;
  Problems problems;
  const ModelConfig model = ParseModelConfig(config, problems);
  ASSERT_TRUE(problems.empty()) << AllMessages(config);
  EXPECT_TRUE(model.qk_norm);
  EXPECT_EQ(model.head_dim, 128);
}

TEST(ModelConfigTest, ReadsLlama3RopeScalingInEitherLayout) {
  json config = SmolLm2();
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 32.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192}};
  Problems problems;
  const ModelConfig flat = ParseModelConfig(config, problems);
  ASSERT_TRUE(problems.empty()) << AllMessages(config);
  ASSERT_EQ(flat.rope_scaling.type, RopeType::kLlama3);
  EXPECT_EQ(flat.rope_scaling.factor, 32.0);

  json nested = config;
  nested["rope_parameters"] = nested["rope_scaling"];
  nested["rope_parameters"]["rope_theta"] = 500000.0;
  nested.erase("rope_scaling");
  nested.erase("rope_theta");
  const ModelConfig five = ParseModelConfig(nested, problems);
  ASSERT_TRUE(problems.empty()) << AllMessages(nested);
  EXPECT_EQ(five.rope_theta, 500000.0);
  EXPECT_EQ(five.rope_scaling.factor, 32.0);
}

TEST(ModelConfigTest, RefusesByNameWhatItDoesNotImplement) {
  const auto with = [](const char* key, json value) {
    json config = SmolLm2();
    config[key] = std::move(value);
    return AllMessages(config);
  };
  EXPECT_THAT(with("model_type", "gemma3"), HasSubstr("gemma3"));
  EXPECT_THAT(with("attention_bias", true), HasSubstr("attention_bias"));
  EXPECT_THAT(with("mlp_bias", true), HasSubstr("mlp_bias"));
  EXPECT_THAT(with("hidden_act", "gelu"), HasSubstr("gelu"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 4.0}}), HasSubstr("dynamic"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}),
              HasSubstr("original_max_position_embeddings: is missing"));
  EXPECT_THAT(with("num_key_value_heads", 2), HasSubstr("num_key_value_heads"));
  EXPECT_NE(with("hidden_size", "wide"), "");
}

json Family(const char* model_type, const char* architecture) {
  json config = SmolLm2();
  config["model_type"] = model_type;
  config["architectures"] = {architecture};
  return config;
}

ModelConfig Parsed(const json& config) {
  Problems problems;
  ModelConfig model = ParseModelConfig(config, problems);
  EXPECT_TRUE(problems.empty()) << AllMessages(config);
  return model;
}

TEST(ModelConfigTest, Qwen2HasABiasAndAWindowOnlyWhereItIsSwitchedOn) {
  json config = Family("qwen2", "Qwen2ForCausalLM");
  config["sliding_window"] = 2048;
  config["use_sliding_window"] = false;
  config["max_window_layers"] = 21;
  const ModelConfig plain = Parsed(config);
  EXPECT_TRUE(plain.qkv_bias);
  EXPECT_EQ(plain.sliding_window, 0);
  EXPECT_EQ(plain.Parameters(), 134515008 + 30 * 15 * 64);
  config["use_sliding_window"] = true;
  const ModelConfig windowed = Parsed(config);
  EXPECT_EQ(windowed.sliding_window, 2048);
  EXPECT_FALSE(windowed.Windowed(20));
  EXPECT_TRUE(windowed.Windowed(21));
}

TEST(ModelConfigTest, MistralHasAWindowUnlessItSaysNull) {
  json config = Family("mistral", "MistralForCausalLM");
  EXPECT_EQ(Parsed(config).sliding_window, 4096);
  config["sliding_window"] = 1024;
  EXPECT_EQ(Parsed(config).sliding_window, 1024);
  EXPECT_TRUE(Parsed(config).Windowed(0));
  config["sliding_window"] = nullptr;
  EXPECT_EQ(Parsed(config).sliding_window, 0);
}

TEST(ModelConfigTest, SmolLm3RotatesAllButEveryFourthLayerOrAsListed) {
  json config = Family("smollm3", "SmolLM3ForCausalLM");
  config.erase("rope_theta");
  config.erase("tie_word_embeddings");
  const ModelConfig model = Parsed(config);
  EXPECT_TRUE(model.Rotates(2));
  EXPECT_FALSE(model.Rotates(3));
  EXPECT_FALSE(model.Rotates(27));
  EXPECT_EQ(model.rope_theta, 2e6);
  EXPECT_TRUE(model.tied_embeddings);
  std::vector<int> layers(30, 1);
  layers[5] = 0;
  config["no_rope_layers"] = layers;
  EXPECT_TRUE(Parsed(config).Rotates(3));
  EXPECT_FALSE(Parsed(config).Rotates(5));
  config["no_rope_layers"] = {1, 0};
  EXPECT_THAT(AllMessages(config), HasSubstr("no_rope_layers"));
}

TEST(ModelConfigTest, YarnOfTheJobExtendsThePositionsInEitherLayout) {
  const json yarn = {{"type", "yarn"}, {"factor", 4.0}};
  const ModelConfig flat = Parsed(WithRopeScaling(SmolLm2(), yarn));
  EXPECT_EQ(flat.rope_scaling.type, RopeType::kYarn);
  EXPECT_EQ(flat.rope_scaling.original_positions, 8192);
  EXPECT_EQ(flat.max_positions, 32768);
  EXPECT_NEAR(flat.rope_scaling.attention_factor, 0.1 * std::log(4.0) + 1, 1e-12);
  json nested = SmolLm2();
  nested["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7e5}};
  nested.erase("rope_theta");
  const ModelConfig five = Parsed(WithRopeScaling(nested, yarn));
  EXPECT_EQ(five.rope_theta, 7e5);
  EXPECT_EQ(five.rope_scaling.type, RopeType::kYarn);
  EXPECT_EQ(Parsed(WithRopeScaling(SmolLm2(), json::object())).max_positions, 8192);
}

TEST(ModelConfigTest, TellsEveryMissingKeyAtOnce) {
  json config = SmolLm2();
  config.erase("hidden_size");
  config.erase("vocab_size");
  const std::string text = AllMessages(config);
  EXPECT_THAT(text, HasSubstr("hidden_size"));
  EXPECT_THAT(text, HasSubstr("vocab_size"));
}

}  // namespace
}  // namespace ithaca::plan
