#include "worker/engine/checkpoint/safetensors.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "tests/worker/engine/checkpoint/checkpoint_fixture.h"
#include "worker/engine/checkpoint/weight_files.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;
using plan::ExitCode;

class Safetensors : public CheckpointFixture {
 protected:
  // A file with this header text and this many bytes of data.
  std::string File(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
    WriteBytes(Path("model.safetensors"), bytes + header + std::string(data_bytes, '\1'));
    return Path("model.safetensors");
  }

  void ExpectInvalid(const std::string& header, size_t data_bytes, const std::vector<std::string>& parts) {
    const std::string path = File(header, data_bytes);
    std::vector<std::string> all = parts;
    all.push_back(path);
    ExpectError(ExitCode::kInvalidModel, all, [&] { SafetensorsReader reader(path); });
  }
};

std::string Header(const json& tensors) { return tensors.dump(); }

json Tensor(const std::string& dtype, const json& shape, int64_t begin, int64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

TEST_F(Safetensors, ReadsBackWhatItWrote) {
  const at::Tensor matrix = at::randn({3, 5});
  const NamedTensors tensors = {{"half", at::randn({7}).to(at::kHalf)},
                                {"transposed", matrix.t()},
                                {"brain", at::randn({2, 1, 3}).to(at::kBFloat16)},
                                {"scalar", at::scalar_tensor(2.5)},
                                {"empty", at::empty({0, 4})},
                                {"count", at::arange(4)}};
  const FileDigest digest = WriteSafetensors(Path("a.safetensors"), tensors, {{"format", "pt"}});
  EXPECT_EQ(digest.bytes, static_cast<int64_t>(std::filesystem::file_size(Path("a.safetensors"))));
  EXPECT_EQ(digest.sha256, DigestFile(Path("a.safetensors")).sha256);

  const SafetensorsReader reader(Path("a.safetensors"));
  EXPECT_THAT(reader.names(), testing::ElementsAre("brain", "count", "empty", "half", "scalar", "transposed"));
  EXPECT_THAT(reader.metadata(), testing::ElementsAre(testing::Pair("format", "pt")));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor loaded = reader.Load(name);
    EXPECT_EQ(loaded.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(loaded, tensor)) << name;
    EXPECT_EQ(reader.Shape(name), tensor.sizes().vec()) << name;
  }
}

TEST_F(Safetensors, DigestIsSha256) {
  WriteBytes(Path("abc"), "abc");
  EXPECT_EQ(DigestFile(Path("abc")).sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  WriteSafetensors(Path("whole"), {{"a", at::ones({4})}, {"b", at::ones({3})}});
  const std::string whole = ReadBytes(Path("whole"));
  for (size_t length = 0; length < whole.size(); ++length) {
    WriteBytes(Path("cut"), whole.substr(0, length));
    ExpectError(ExitCode::kInvalidModel, {Path("cut"), "truncated"}, [&] { SafetensorsReader reader(Path("cut")); });
  }
}

TEST_F(Safetensors, NoDamagedByteOfTheHeaderCrashes) {
  WriteSafetensors(Path("whole"), {{"a", at::ones({4})}, {"b", at::ones({3, 2})}});
  const std::string whole = ReadBytes(Path("whole"));
  const size_t header_end = whole.size() - 4 * 4 - 6 * 4;
  int refused = 0;
  for (size_t at = 0; at < header_end; ++at) {
    for (const char value : {'\0', '0', '9', '"', '}', '\xff'}) {
      std::string damaged = whole;
      damaged[at] = value;
      WriteBytes(Path("damaged"), damaged);
      try {
        const SafetensorsReader reader(Path("damaged"));
        for (const std::string& name : reader.names()) reader.Load(name);
      } catch (const EngineError& error) {
        EXPECT_EQ(error.code(), ExitCode::kInvalidModel);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(header_end));
}

TEST_F(Safetensors, MissingFileIsNamed) {
  ExpectError(ExitCode::kInvalidModel, {Path("none"), "No such file"}, [&] { SafetensorsReader reader(Path("none")); });
}

TEST_F(Safetensors, HugeHeaderLengthIsRefused) {
  WriteBytes(Path("huge"), std::string(8, '\xff') + "{}");
  ExpectError(ExitCode::kInvalidModel, {"no safetensors file"}, [&] { SafetensorsReader reader(Path("huge")); });
}

TEST_F(Safetensors, HeaderThatIsNotAnObjectIsRefused) {
  ExpectInvalid("[1]", 0, {"not a JSON object"});
  ExpectInvalid("{\"a\":", 0, {"not valid JSON"});
}

TEST_F(Safetensors, OffsetsOutOfRangeAreRefused) {
  ExpectInvalid(Header({{"w", Tensor("F32", {2}, 4, 12)}}), 8, {"tensor w", "truncated"});
  ExpectInvalid(Header({{"w", Tensor("F32", {2}, -8, 0)}}), 8, {"tensor w", "data_offsets"});
  ExpectInvalid(Header({{"w", Tensor("F32", {2}, 8, 0)}}), 8, {"tensor w", "data_offsets"});
}

TEST_F(Safetensors, OverlapGapAndRestAreRefused) {
  ExpectInvalid(Header({{"v", Tensor("F32", {2}, 0, 8)}, {"w", Tensor("F32", {2}, 4, 12)}}), 12, {"v and w overlap"});
  ExpectInvalid(Header({{"v", Tensor("F32", {1}, 0, 4)}, {"w", Tensor("F32", {1}, 8, 12)}}), 12,
                {"gap before tensor w"});
  ExpectInvalid(Header({{"w", Tensor("F32", {1}, 0, 4)}}), 6, {"2 bytes after its last tensor"});
}

TEST_F(Safetensors, ShapeAndDTypeMustMatchTheBytes) {
  ExpectInvalid(Header({{"w", Tensor("F32", {3}, 0, 8)}}), 8, {"tensor w", "8 bytes", "need 12"});
  ExpectInvalid(Header({{"w", Tensor("BF16", {2, 4}, 0, 8)}}), 8, {"tensor w", "need 16"});
  ExpectInvalid(Header({{"w", Tensor("F32", {int64_t{1} << 40, int64_t{1} << 40}, 0, 8)}}), 8, {"tensor w", "shape"});
  ExpectInvalid(Header({{"w", Tensor("F32", {-1}, 0, 8)}}), 8, {"tensor w", "shape"});
  ExpectInvalid(Header({{"w", Tensor("F32", "two", 0, 8)}}), 8, {"tensor w", "shape"});
  ExpectInvalid(Header({{"w", Tensor("Q4", {2}, 0, 8)}}), 8, {"tensor w", "Q4"});
}

TEST_F(Safetensors, TensorNamedTwiceIsRefused) {
  const std::string one = Tensor("F32", {1}, 0, 4).dump();
  ExpectInvalid("{\"w\":" + one + ",\"w\":" + one + "}", 4, {"tensor w twice"});
}

TEST_F(Safetensors, UnknownTensorIsNamed) {
  const std::string path = File(Header({{"w", Tensor("F32", {1}, 0, 4)}}), 4);
  ExpectError(ExitCode::kInvalidModel, {path, "no tensor lm_head"}, [&] { SafetensorsReader(path).Load("lm_head"); });
}

class Weights : public CheckpointFixture {
 protected:
  void WriteIndex(const json& weight_map) {
    WriteBytes(Path("model.safetensors.index.json"), json({{"weight_map", weight_map}}).dump());
  }
  void ExpectInvalid(const std::vector<std::string>& parts) {
    ExpectError(ExitCode::kInvalidModel, parts, [&] { WeightFiles weights(directory_.string()); });
  }
};

TEST_F(Weights, SingleFileIsRead) {
  WriteSafetensors(Path("model.safetensors"), {{"a", at::full({2}, 3.0)}});
  const WeightFiles weights(directory_.string());
  EXPECT_TRUE(weights.Has("a"));
  EXPECT_FALSE(weights.Has("b"));
  EXPECT_EQ(weights.Load("a").sum().item<float>(), 6.0f);
}

TEST_F(Weights, ShardsAreReadThroughTheIndex) {
  WriteSafetensors(Path("one.safetensors"), {{"a", at::full({2}, 1.0)}, {"unlisted", at::ones({1})}});
  WriteSafetensors(Path("two.safetensors"), {{"b", at::full({2}, 2.0)}});
  WriteIndex({{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  const WeightFiles weights(directory_.string());
  EXPECT_THAT(weights.names(), testing::ElementsAre("a", "b"));
  EXPECT_EQ(weights.Load("a")[0].item<float>(), 1.0f);
  EXPECT_EQ(weights.Load("b")[0].item<float>(), 2.0f);
}

TEST_F(Weights, MissingFilesAreNamed) {
  ExpectInvalid({directory_.string(), "neither model.safetensors nor"});
  WriteIndex({{"a", "gone.safetensors"}});
  ExpectInvalid({"gone.safetensors", "No such file"});
}

TEST_F(Weights, TensorTheIndexPromisesMustBeThere) {
  WriteSafetensors(Path("one.safetensors"), {{"a", at::ones({1})}});
  WriteIndex({{"a", "one.safetensors"}, {"b", "one.safetensors"}});
  ExpectInvalid({"one.safetensors", "lacks tensor b"});
}

TEST_F(Weights, IndexMayNotLeaveItsDirectory) {
  WriteIndex({{"a", "../one.safetensors"}});
  ExpectInvalid({"tensor a"});
  WriteBytes(Path("model.safetensors.index.json"), "{");
  ExpectInvalid({"index.json", "weight_map"});
}

}  // namespace
}  // namespace ithaca::engine
