#include "worker/engine/checkpoint/export.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "tests/worker/engine/checkpoint/checkpoint_fixture.h"
#include "worker/engine/checkpoint/weight_files.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;
using plan::ExitCode;

class Export : public CheckpointFixture {
 protected:
  void SetUp() override {
    CheckpointFixture::SetUp();
    std::filesystem::create_directory(Path("model"));
    WriteBytes(Path("model/config.json"),
               R"({"model_type": "llama", "torch_dtype": "bfloat16", "rope_scaling": null})");
    WriteBytes(Path("model/tokenizer.json"), "{\"tokenizer\": 1}");
    WriteBytes(Path("model/model.safetensors.index.json"), "{\"old\": true}");
    WriteBytes(Path("model/pytorch_model.bin"), "old weights");
  }

  json Config() const { return json::parse(ReadBytes(Path("out/config.json"))); }
};

TEST_F(Export, HoldsWeightsConfigurationAndTokenizerOnly) {
  const NamedTensors tensors = {{"w", at::randn({3, 2})}};
  const CheckpointInfo info = ExportHuggingFace(Path("model"), tensors, Path("out"), json::object());
  EXPECT_EQ(info.path, Path("out"));
  EXPECT_THAT(Listing("out"), testing::ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_EQ(ReadBytes(Path("out/tokenizer.json")), "{\"tokenizer\": 1}");
  EXPECT_TRUE(at::equal(WeightFiles(Path("out")).Load("w"), tensors[0].second));
  EXPECT_EQ(SafetensorsReader(Path("out/model.safetensors")).metadata().at("format"), "pt");
  EXPECT_EQ(Config()["torch_dtype"], "float32");
  EXPECT_THAT(Listing(), testing::ElementsAre("model", "out"));
}

TEST_F(Export, ConfigSaysDTypeUnderTheKeyItHad) {
  WriteBytes(Path("model/config.json"), R"({"dtype": "float32"})");
  ExportHuggingFace(Path("model"), {{"w", at::ones({2}).to(at::kBFloat16)}}, Path("out/"), json::object());
  EXPECT_EQ(Config(), json({{"dtype", "bfloat16"}}));
}

TEST_F(Export, RopeScalingOfTheJobReachesTheConfig) {
  WriteBytes(Path("model/config.json"), R"({"model_type": "llama", "max_position_embeddings": 2048})");
  ExportHuggingFace(Path("model"), {{"w", at::ones({2})}}, Path("out"), {{"type", "yarn"}, {"factor", 4.0}});
  EXPECT_EQ(Config()["rope_scaling"],
            json({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 2048}}));
  EXPECT_EQ(Config()["max_position_embeddings"], 8192);
  EXPECT_EQ(Config()["model_type"], "llama");
}

TEST_F(Export, LargeModelsAreSharded) {
  const NamedTensors tensors = {
      {"a", at::randn({10})}, {"b", at::randn({10})}, {"c", at::randn({30})}, {"d", at::randn({1})}};
  ExportHuggingFace(Path("model"), tensors, Path("out"), json::object(), /*max_shard_bytes=*/80);
  EXPECT_THAT(
      Listing("out"),
      testing::ElementsAre("config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                           "model-00003-of-00003.safetensors", "model.safetensors.index.json", "tokenizer.json"));
  const json index = json::parse(ReadBytes(Path("out/model.safetensors.index.json")));
  EXPECT_EQ(index["metadata"]["total_size"], 51 * 4);
  const WeightFiles weights(Path("out"));
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(at::equal(weights.Load(name), tensor)) << name;
}

TEST_F(Export, EarlierExportIsReplacedWhole) {
  std::filesystem::create_directory(Path("out"));
  WriteBytes(Path("out/model-00001-of-00002.safetensors"), "stale shard");
  ExportHuggingFace(Path("model"), {{"w", at::ones({2})}}, Path("out"), json::object());
  EXPECT_THAT(Listing("out"), testing::ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
}

TEST_F(Export, ModelWithoutConfigIsRefusedAndNothingIsLeft) {
  std::filesystem::remove(Path("model/config.json"));
  ExpectError(ExitCode::kInvalidModel, {Path("model/config.json")}, [&] {
    ExportHuggingFace(Path("model"), {{"w", at::ones({2})}}, Path("out"), json::object());
  });
  EXPECT_THAT(Listing(), testing::ElementsAre("model"));
}

}  // namespace
}  // namespace ithaca::engine
