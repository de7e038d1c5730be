#include "worker/engine/model/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

plan::ModelConfig TinyModel(bool tied) {
  plan::ModelConfig config;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.layers = 2;
  config.query_heads = 2;
  config.kv_heads = 1;
  config.head_dim = 6;
  config.vocab_size = 10;
  config.tied_embeddings = tied;
  config.qk_norm = true;
  return config;
}

class ParametersTest : public testing::Test {
 protected:
  ParametersTest() : directory_(testing::TempDir() + "parameters_test") {
    std::filesystem::create_directories(directory_);
    for (const ParameterSpec& spec : ParameterSpecs(TinyModel(false))) {
      tensors_.emplace_back(spec.name, torch::randn(spec.shape));
    }
  }
  ~ParametersTest() override { std::filesystem::remove_all(directory_); }

  // How loading `tensors_` ends: the message of the error, or empty.
  std::string LoadError() {
    WriteSafetensors(directory_ + "/model.safetensors", tensors_);
    Parameters parameters(TinyModel(false), at::kFloat, at::kCPU);
    try {
      parameters.Load(WeightFiles(directory_));
    } catch (const EngineError& error) {
      EXPECT_EQ(error.code(), plan::ExitCode::kInvalidModel);
      return error.what();
    }
    for (const auto& [name, tensor] : tensors_) EXPECT_TRUE(parameters.Weight(name).equal(tensor)) << name;
    return "";
  }

  const std::string directory_;
  NamedTensors tensors_;
};

TEST_F(ParametersTest, LoadsEveryTensorUnderItsName) { EXPECT_EQ(LoadError(), ""); }

TEST_F(ParametersTest, NamesAMissingTensor) {
  const std::string name = tensors_.back().first;
  tensors_.pop_back();
  EXPECT_THAT(LoadError(), testing::HasSubstr(name));
}

TEST_F(ParametersTest, NamesATensorOfAnotherShape) {
  tensors_[3].second = torch::randn({7, 5});
  EXPECT_THAT(LoadError(), testing::AllOf(testing::HasSubstr(tensors_[3].first), testing::HasSubstr("[7, 5]")));
}

TEST_F(ParametersTest, NamesATensorThatIsNotOfTheModel) {
  tensors_.emplace_back("model.layers.0.self_attn.q_proj.bias", torch::randn({12}));
  EXPECT_THAT(LoadError(), testing::HasSubstr("q_proj.bias"));
}

TEST_F(ParametersTest, VectorsComeBeforeMatricesAndAdjacentMatricesStack) {
  const Parameters parameters(TinyModel(false), at::kFloat, at::kCPU);
  bool matrices_began = false;
  int64_t vectors = 0;
  for (const ParameterSpec& spec : parameters.specs()) {
    if (spec.shape.size() == 1) {
      EXPECT_FALSE(matrices_began) << spec.name;
      vectors += spec.shape[0];
    } else {
      matrices_began = true;
    }
  }
  EXPECT_EQ(parameters.vector_elements(), vectors);
  const std::string self = "model.layers.1.self_attn.";
  const at::Tensor qkv =
      parameters.StackedWeight({self + "q_proj.weight", self + "k_proj.weight", self + "v_proj.weight"});
  EXPECT_EQ(qkv.sizes(), at::IntArrayRef({12 + 6 + 6, 8}));
  EXPECT_EQ(qkv.data_ptr(), parameters.Weight(self + "q_proj.weight").data_ptr());
  EXPECT_EQ(qkv[18].data_ptr(), parameters.Weight(self + "v_proj.weight").data_ptr());
}

TEST_F(ParametersTest, ATiedHeadIsTheEmbeddingAndCountsOnce) {
  const Parameters tied(TinyModel(true), at::kBFloat16, at::kCPU);
  const Parameters untied(TinyModel(false), at::kBFloat16, at::kCPU);
  EXPECT_EQ(untied.elements() - tied.elements(), 10 * 8);
  EXPECT_EQ(tied.Weight("lm_head.weight").data_ptr(), tied.Weight("model.embed_tokens.weight").data_ptr());
  EXPECT_EQ(tied.Gradient("lm_head.weight").scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace ithaca::engine
