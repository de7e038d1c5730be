#include "server/store/disk_attempt_files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "proto/errors.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

const AttemptKey kKey{"j1", 1};
constexpr char kReady[] = R"({"event":"ready"})";

class DiskAttemptFilesTest : public testing::Test {
 protected:
  // Another process's view of the same files.
  void Restart() { files_ = std::make_unique<DiskAttemptFiles>(directory_.path()); }
  std::filesystem::path File(const std::string& name) { return directory_.path() / "jobs/j1/attempts/1" / name; }
  std::vector<EngineEventRecord> Events(EventFile file = EventFile::kEvents) {
    const auto page = files_->ReadEvents(kKey, file, 0, 1000);
    EXPECT_TRUE(page.ok()) << page.status();
    return page->events;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<DiskAttemptFiles> files_ = std::make_unique<DiskAttemptFiles>(directory_.path());
};

TEST_F(DiskAttemptFilesTest, EventsOfBothFilesShareTheirRanksOffsets) {
  EXPECT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  const int64_t next = files_->Positions(kKey)->at(0).event_offset;
  EXPECT_EQ(next, static_cast<int64_t>(sizeof kReady));
  EXPECT_TRUE(*files_->AppendEvent(kKey, EventFile::kSteps, {0, next, R"({"event":"step"})"}));
  EXPECT_FALSE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, next, R"({"event":"step"})"})) << "seen already";
  EXPECT_FALSE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  EXPECT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {1, 0, kReady})) << "another rank counts for itself";
  EXPECT_EQ(Events().size(), 2u);
  EXPECT_EQ(Events(EventFile::kSteps).size(), 1u);
}

TEST_F(DiskAttemptFilesTest, ARestartRemembersWhatIsStored) {
  ASSERT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  ASSERT_TRUE(files_->AppendLog(kKey, 0, 0, "hello").ok());
  Restart();
  EXPECT_FALSE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  EXPECT_EQ(files_->Positions(kKey)->at(0).log_offset, 5);
}

TEST_F(DiskAttemptFilesTest, ATornLastLineIsIgnoredThenOverwritten) {
  ASSERT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  files_->Close(kKey);
  const std::string line = R"({"rank":0,"offset":18,"size":17,"event":{"event":"war)";
  std::ofstream(File("events.jsonl"), std::ios::app) << line;
  EXPECT_EQ(Events().size(), 1u) << "a reader leaves it out";
  Restart();
  EXPECT_EQ(files_->Positions(kKey)->at(0).event_offset, static_cast<int64_t>(sizeof kReady));
  EXPECT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, sizeof kReady, R"({"event":"warn"})"}));
  const std::vector<EngineEventRecord> events = Events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].json, R"({"event":"warn"})");
}

TEST_F(DiskAttemptFilesTest, LogsKeepTheirOffsets) {
  ASSERT_TRUE(files_->AppendLog(kKey, 2, 0, "abc").ok());
  ASSERT_TRUE(files_->AppendLog(kKey, 2, 1, "bcdef").ok());
  ASSERT_TRUE(files_->AppendLog(kKey, 2, 0, "abc").ok());
  EXPECT_EQ(*files_->ReadLog(kKey, 2, 0, 100), "abcdef");
  EXPECT_EQ(*files_->ReadLog(kKey, 2, 4, 1), "e");
  EXPECT_EQ(*files_->ReadLog(kKey, 2, 6, 100), "");
  ASSERT_TRUE(files_->AppendLog(kKey, 2, 8, "x").ok());
  EXPECT_EQ(*files_->ReadLog(kKey, 2, 6, 100), std::string("\0\0x", 3)) << "what was lost reads as zeros";
  EXPECT_EQ(*files_->LogRanks(kKey), (std::vector<int>{2}));
}

TEST_F(DiskAttemptFilesTest, AnAttemptWithoutFilesIsEmpty) {
  EXPECT_TRUE(Events().empty());
  EXPECT_TRUE(files_->LogRanks(kKey)->empty());
  EXPECT_EQ(*files_->ReadLog(kKey, 0, 0, 10), "");
  EXPECT_TRUE(files_->Positions(kKey)->empty());
}

TEST_F(DiskAttemptFilesTest, AFullDiskIsAClearErrorAndNothingIsHalfWritten) {
  ASSERT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  ASSERT_TRUE(files_->AppendLog(kKey, 0, 0, "abc").ok());
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{200, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status event =
      files_->AppendEvent(kKey, EventFile::kEvents, {0, sizeof kReady, std::string(500, 'x')}).status();
  const absl::Status log = files_->AppendLog(kKey, 0, 3, std::string(500, 'y'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(event.code(), absl::StatusCode::kResourceExhausted) << event;
  EXPECT_EQ(log.code(), absl::StatusCode::kResourceExhausted) << log;
  EXPECT_EQ(ReasonOf(event), "STORAGE_FULL");
  EXPECT_EQ(ReasonOf(log), "STORAGE_FULL");
  EXPECT_EQ(Events().size(), 1u);
  EXPECT_EQ(*files_->ReadLog(kKey, 0, 0, 1000), "abc");
  // Once there is room, the worker sends it again.
  EXPECT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, sizeof kReady, std::string(500, 'x')}));
  EXPECT_EQ(Events().size(), 2u);
}

TEST_F(DiskAttemptFilesTest, ADirectoryThatCannotBeMadeIsAnError) {
  std::ofstream(directory_.path() / "jobs") << "a file is in the way";
  EXPECT_EQ(files_->MakeDirectory(kKey).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(files_->MakeDirectory(kKey).status()), "STORAGE_FAILED");
  EXPECT_FALSE(files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}).ok());
}

TEST_F(DiskAttemptFilesTest, RemovingAJobKeepsItsCheckpoints) {
  ASSERT_TRUE(*files_->AppendEvent(kKey, EventFile::kEvents, {0, 0, kReady}));
  std::filesystem::create_directories(files_->JobDirectory("j1") / "checkpoints");
  ASSERT_TRUE(files_->RemoveJob("j1").ok());
  EXPECT_FALSE(std::filesystem::exists(files_->JobDirectory("j1") / "attempts"));
  EXPECT_TRUE(std::filesystem::exists(files_->JobDirectory("j1") / "checkpoints"));
  ASSERT_TRUE(*files_->AppendEvent({"j2", 1}, EventFile::kEvents, {0, 0, kReady}));
  ASSERT_TRUE(files_->RemoveJob("j2").ok());
  EXPECT_FALSE(std::filesystem::exists(files_->JobDirectory("j2")));
}

}  // namespace
}  // namespace ithaca
