#include "worker/engine/checkpoint/checkpoint.h"

#include <ATen/ATen.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "tests/worker/engine/checkpoint/checkpoint_fixture.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;
using plan::ExitCode;

// Files of this process cannot grow beyond a size while this lives: a full disk that needs no mount and no root.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : previous_handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &previous_);
    rlimit limit = previous_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_{};
  void (*previous_handler_)(int);
};

class CheckpointTest : public CheckpointFixture {
 protected:
  CheckpointInfo Write(int64_t step, int64_t keep = 10, int64_t elements = 8) {
    const auto value = static_cast<double>(step);
    return WriteCheckpoint(directory_.string(), step, {{"w", at::full({elements}, value)}},
                           {{"w.master", at::full({elements}, value + 0.5)}}, {{"step", step}}, keep);
  }

  std::string Newest() const {
    const auto path = FindNewestValid(directory_.string());
    return path ? std::filesystem::path(*path).filename().string() : "none";
  }

  void FlipLastByte(const std::string& name) {
    std::string bytes = ReadBytes(Path(name));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    WriteBytes(Path(name), bytes);
  }
};

TEST_F(CheckpointTest, ReadsBackWhatItWrote) {
  const CheckpointInfo info = Write(200);
  EXPECT_EQ(info.path, Path("step-00000200"));
  EXPECT_THAT(Listing("step-00000200"),
              testing::ElementsAre("MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"));
  int64_t bytes = 0;
  for (const std::string& name : Listing("step-00000200")) {
    bytes += static_cast<int64_t>(std::filesystem::file_size(Path("step-00000200/" + name)));
  }
  EXPECT_EQ(info.bytes, bytes);

  const Checkpoint checkpoint = ReadCheckpoint(info.path);
  EXPECT_TRUE(at::equal(checkpoint.model.Load("w"), at::full({8}, 200.0)));
  EXPECT_TRUE(at::equal(checkpoint.optimizer.Load("w.master"), at::full({8}, 200.5)));
  EXPECT_EQ(checkpoint.state, json({{"step", 200}}));
}

TEST_F(CheckpointTest, NewestIsByNumberAndOtherNamesDoNotCount) {
  EXPECT_EQ(Newest(), "none");
  Write(9);
  Write(100);
  Write(99'999'999);
  Write(100'000'000);
  std::filesystem::create_directory(Path("step-x"));
  std::filesystem::create_directory(Path("step-999999999x"));
  EXPECT_EQ(Newest(), "step-100000000");
}

TEST_F(CheckpointTest, MissingDirectoryHasNoCheckpoint) { EXPECT_EQ(FindNewestValid(Path("nowhere")), std::nullopt); }

TEST_F(CheckpointTest, OneBeforeIsUsedWithoutManifest) {
  Write(1);
  Write(2);
  std::filesystem::remove(Path("step-00000002/MANIFEST.json"));
  EXPECT_EQ(Newest(), "step-00000001");
  ExpectError(ExitCode::kCheckpointIo, {"step-00000002", "MANIFEST.json"},
              [&] { ReadCheckpoint(Path("step-00000002")); });
}

TEST_F(CheckpointTest, OneBeforeIsUsedWhenAnyFileDiffers) {
  for (const std::string name : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    Write(1);
    Write(2);
    FlipLastByte("step-00000002/" + name);
    EXPECT_EQ(Newest(), "step-00000001") << name;
    ExpectError(ExitCode::kCheckpointIo, {name, "checksum"}, [&] { ReadCheckpoint(Path("step-00000002")); });
    std::filesystem::remove(Path("step-00000002/" + name));
    EXPECT_EQ(Newest(), "step-00000001") << name;
  }
}

TEST_F(CheckpointTest, NewestNAreKept) {
  for (int64_t step = 1; step <= 5; ++step) Write(step, 2);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000004", "step-00000005"));
  Write(6, 0);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000006"));
}

TEST_F(CheckpointTest, BrokenOnesDoNotPushGoodOnesOut) {
  Write(1);
  Write(2);
  std::filesystem::remove(Path("step-00000002/MANIFEST.json"));
  Write(3, 2);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000001", "step-00000003"));
}

TEST_F(CheckpointTest, EarlierStepWrittenLaterIsKept) {
  Write(100);
  Write(200);
  Write(50, 1);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000050", "step-00000100", "step-00000200"));
}

TEST_F(CheckpointTest, NewerOnesAreSetAside) {
  for (const int64_t step : {1, 2, 3, 4}) Write(step);
  EXPECT_THAT(AbandonNewer(directory_.string(), 2),
              testing::UnorderedElementsAre(Path("abandoned-step-00000003"), Path("abandoned-step-00000004")));
  EXPECT_EQ(Newest(), "step-00000002");
  Write(3);
  EXPECT_THAT(AbandonNewer(directory_.string(), 2), testing::ElementsAre(Path("abandoned-step-00000003")));
  EXPECT_THAT(Listing(), testing::ElementsAre("abandoned-step-00000003", "abandoned-step-00000004", "step-00000001",
                                              "step-00000002"));
}

TEST_F(CheckpointTest, SameStepIsReplaced) {
  Write(7, 10, 4);
  Write(7, 10, 16);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000007"));
  EXPECT_EQ(ReadCheckpoint(Path("step-00000007")).model.Shape("w"), std::vector<int64_t>{16});
}

TEST_F(CheckpointTest, FullDiskLeavesTheOneBeforeAndNothingElse) {
  Write(1, 1);
  {
    const FileSizeLimit limit(20'000);
    ExpectError(ExitCode::kCheckpointIo, {"model.safetensors", "cannot write"}, [&] { Write(2, 1, 100'000); });
  }
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000001"));
  EXPECT_EQ(Newest(), "step-00000001");
  Write(2, 1, 100'000);
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000002"));
}

TEST_F(CheckpointTest, FailedRenameLeavesWhatWasThere) {
  Write(3);
  ExpectError(ExitCode::kCheckpointIo, {"cannot rename", "step-00000003"},
              [&] { ReplaceDirectory(Path("gone"), Path("step-00000003")); });
  EXPECT_THAT(Listing(), testing::ElementsAre("step-00000003"));
  EXPECT_EQ(Newest(), "step-00000003");
}

TEST_F(CheckpointTest, UncommittedDirectoryIsRemoved) {
  {
    TemporaryDirectory temporary(directory_.string(), "result");
    WriteBytes(temporary.path() + "/file", "x");
    EXPECT_EQ(Listing().size(), 1u);
  }
  EXPECT_THAT(Listing(), testing::IsEmpty());
}

TEST_F(CheckpointTest, StaleTemporariesGoAtStart) {
  PrepareCheckpointDirectory(Path("a/b"));
  std::filesystem::create_directories(Path("a/b/.tmp-step-00000001-77/x"));
  std::filesystem::create_directories(Path("a/b/keep"));
  PrepareCheckpointDirectory(Path("a/b"));
  EXPECT_THAT(Listing("a/b"), testing::ElementsAre("keep"));
}

TEST_F(CheckpointTest, DirectoryThatCannotBeMadeIsNamed) {
  WriteBytes(Path("file"), "x");
  ExpectError(ExitCode::kCheckpointIo, {Path("file/checkpoints")},
              [&] { PrepareCheckpointDirectory(Path("file/checkpoints")); });
  ExpectError(ExitCode::kCheckpointIo, {Path("file")},
              [&] { WriteCheckpoint(Path("file"), 1, {}, {}, json::object(), 1); });
}

}  // namespace
}  // namespace ithaca::engine
