#include "worker/plan/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  ASSERT_TRUE(flat.rope_scaling.has_value());
  EXPECT_EQ(flat.rope_scaling->factor, 32.0);

  json nested = config;
  nested["rope_parameters"] = nested["rope_scaling"];
  nested["rope_parameters"]["rope_theta"] = 500000.0;
  nested.erase("rope_scaling");
  nested.erase("rope_theta");
  const ModelConfig five = ParseModelConfig(nested, problems);
  ASSERT_TRUE(problems.empty()) << AllMessages(nested);
  EXPECT_EQ(five.rope_theta, 500000.0);
  EXPECT_EQ(five.rope_scaling->factor, 32.0);
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
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}), HasSubstr("yarn"));
  EXPECT_THAT(with("num_key_value_heads", 2), HasSubstr("num_key_value_heads"));
  EXPECT_NE(with("hidden_size", "wide"), "");
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
