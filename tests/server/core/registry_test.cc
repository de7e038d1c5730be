#include "server/core/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/message_limits.h"
#include "server/store/memory_store.h"
#include "tests/server/core/hooked_files.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RegistryTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  MemoryStore store_;
  FakeClock clock_;
  FakeLauncher launcher_;
  Service service_{store_, directory_.path(), clock_, launcher_};
  Registry& registry_ = service_.registry;
};

TEST_F(RegistryTest, ACreatedJobIsQueuedAndStored) {
  const v1::Job job = service_.Create(SpecFor(2, "one"));
  EXPECT_EQ(job.state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(job.name(), "one");
  EXPECT_FALSE(job.id().empty());
  EXPECT_TRUE(job.plan().unchecked());
  ASSERT_EQ(store_.Load()->jobs.size(), 1u);
  EXPECT_EQ(store_.Load()->jobs[0].job.id(), job.id());
}

TEST_F(RegistryTest, TheSameRequestMakesOneJob) {
  const v1::Job first = service_.Create(SpecFor(2), "r1");
  const v1::Job again = service_.Create(SpecFor(2), "r1");
  EXPECT_EQ(first.id(), again.id());
  EXPECT_EQ(store_.Load()->jobs.size(), 1u);
}

TEST_F(RegistryTest, TheSameRequestLaterReturnsTheJobAsItIsNow) {
  const v1::Job job = service_.Create(SpecFor(2), "r1");
  ASSERT_TRUE(registry_.Cancel(job.id(), std::nullopt).ok());
  EXPECT_EQ(service_.Create(SpecFor(2), "r1").state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(RegistryTest, ARequestIdForAnotherJobIsRefused) {
  const v1::Job job = service_.Create(SpecFor(2), "r1");
  const absl::Status status = registry_.Create({}, SpecFor(1), {"r1", false, ""}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(status), "REQUEST_ID_REUSED");
  EXPECT_THAT(std::string(status.message()), HasSubstr(job.id()));
}

TEST_F(RegistryTest, RequestIdsOfDifferentCallersDoNotMeet) {
  const auto a = registry_.Create({"a"}, SpecFor(2), {"r1", false, ""});
  const auto b = registry_.Create({"b"}, SpecFor(2), {"r1", false, ""});
  EXPECT_NE(a->id(), b->id());
}

TEST_F(RegistryTest, TheSameRequestFromManyThreadsMakesOneJob) {
  std::vector<std::thread> threads;
  std::vector<std::string> ids(8);
  for (std::string& id : ids) {
    threads.emplace_back([&] { id = registry_.Create({}, SpecFor(2), {"r1", false, ""})->id(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 1u);
  EXPECT_EQ(store_.Load()->jobs.size(), 1u);
}

TEST_F(RegistryTest, ValidateOnlyStoresNothing) {
  const auto job = registry_.Create({}, SpecFor(2), {"r1", true, ""});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_TRUE(job->id().empty());
  EXPECT_TRUE(job->has_plan());
  EXPECT_TRUE(store_.Load()->jobs.empty());
  EXPECT_FALSE(service_.Create(SpecFor(2), "r1").id().empty());
}

TEST_F(RegistryTest, AJobThatCannotBeStoredIsNotAccepted) {
  store_.FailWith(absl::ResourceExhaustedError("the disk is full"));
  EXPECT_EQ(registry_.Create({}, SpecFor(2), {"r1", false, ""}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(registry_.List(0, "", "")->jobs.empty());
  store_.FailWith(absl::OkStatus());
  EXPECT_FALSE(service_.Create(SpecFor(2), "r1").id().empty());
  EXPECT_EQ(registry_.List(0, "", "")->jobs.size(), 1u);
}

TEST_F(RegistryTest, AnUnknownJobIsNotFound) {
  for (const absl::Status& status :
       {registry_.Get("jx").status(), registry_.Cancel("jx", std::nullopt).status(), registry_.Delete("jx", ""),
        registry_.ListEvents("jx", 0, "", absl::InfinitePast()).status(), registry_.NextChange("jx", "").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(ReasonOf(status), "JOB_NOT_FOUND");
  }
}

TEST_F(RegistryTest, ListPagesNewestFirstWithoutGapsOrRepeats) {
  for (int i = 0; i < 7; ++i) service_.Create(SpecFor(1, absl::StrCat("job-", i)));
  std::vector<std::string> names;
  std::string token;
  int pages = 0;
  do {
    const auto page = registry_.List(3, token, "");
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Job& job : page->jobs) names.push_back(job.name());
    token = page->next_page_token;
    ++pages;
  } while (!token.empty());
  EXPECT_EQ(pages, 3);
  EXPECT_THAT(names, ElementsAre("job-6", "job-5", "job-4", "job-3", "job-2", "job-1", "job-0"));
}

TEST_F(RegistryTest, APageOfLargeJobsFitsIntoAMessage) {
  v1::JobSpec spec = SpecFor(1);
  const std::string document = "/data/" + std::string(200, 'x');
  for (int i = 0; i < 3500; ++i) spec.mutable_data()->add_train()->set_path(document);
  std::set<std::string> ids;
  for (int i = 0; i < 12; ++i) ids.insert(service_.Create(spec).id());
  std::string token;
  do {
    const auto page = registry_.List(100, token, "");
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_FALSE(page->jobs.empty());
    size_t bytes = 0;
    for (const v1::Job& job : page->jobs) {
      bytes += job.ByteSizeLong();
      EXPECT_EQ(ids.erase(job.id()), 1u);
    }
    EXPECT_LT(bytes, static_cast<size_t>(kMaxMessageBytes));
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_TRUE(ids.empty());
}

TEST_F(RegistryTest, APageOfLargeEventsFitsIntoAMessage) {
  const v1::Job job = service_.Create(SpecFor(1));
  service_.Settle();
  service_.Attach(job.id());
  const std::string text(1 << 20, 'x');
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(service_.Report(job.id(), 0, R"({"event":"warning","message":")" + text + R"("})").ok());
  }
  int warnings = 0;
  std::string token;
  do {
    const auto page = registry_.ListEvents(job.id(), 1000, token, absl::InfinitePast());
    ASSERT_TRUE(page.ok()) << page.status();
    size_t bytes = 0;
    for (const v1::Event& event : page->events) {
      bytes += event.ByteSizeLong();
      warnings += event.kind() == "warning" ? 1 : 0;
    }
    EXPECT_LT(bytes, static_cast<size_t>(kMaxMessageBytes));
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(warnings, 10);
}

TEST_F(RegistryTest, AFullLastPageHasNoToken) {
  for (int i = 0; i < 4; ++i) service_.Create(SpecFor(1));
  EXPECT_FALSE(registry_.List(3, "", "")->next_page_token.empty());
  EXPECT_TRUE(registry_.List(4, "", "")->next_page_token.empty());
}

TEST_F(RegistryTest, APageTokenBelongsToItsFilter) {
  for (int i = 0; i < 4; ++i) service_.Create(SpecFor(1));
  const std::string token = registry_.List(2, "", "state=QUEUED")->next_page_token;
  EXPECT_TRUE(registry_.List(2, token, "state=QUEUED").ok());
  EXPECT_EQ(registry_.List(2, token, "").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RegistryTest, CancelOfAQueuedJobIsImmediate) {
  const v1::Job job = service_.Create(SpecFor(2));
  const auto cancelled = registry_.Cancel(job.id(), std::nullopt);
  EXPECT_EQ(cancelled->state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(cancelled->reason(), v1::JOB_REASON_CANCEL_REQUESTED);
  EXPECT_TRUE(cancelled->has_end_time());
  service_.Settle();
  EXPECT_TRUE(launcher_.started.empty());
}

TEST_F(RegistryTest, CancelOfAnEndedJobReturnsItAsItIs) {
  const v1::Job job = service_.Create(SpecFor(2));
  const auto first = registry_.Cancel(job.id(), std::nullopt);
  clock_.Advance(absl::Seconds(5));
  const auto second = registry_.Cancel(job.id(), std::nullopt);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->SerializeAsString(), first->SerializeAsString());
}

TEST_F(RegistryTest, CancelRefusesAnAbsurdGrace) {
  const v1::Job job = service_.Create(SpecFor(2));
  EXPECT_EQ(registry_.Cancel(job.id(), absl::Hours(2)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(registry_.Cancel(job.id(), absl::Seconds(-1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RegistryTest, DeleteWantsATerminalJob) {
  const v1::Job job = service_.Create(SpecFor(2), "r1");
  EXPECT_EQ(ReasonOf(registry_.Delete(job.id(), "")), "JOB_NOT_TERMINAL");
  const std::string etag = registry_.Cancel(job.id(), std::nullopt)->etag();
  EXPECT_EQ(ReasonOf(registry_.Delete(job.id(), job.etag())), "ETAG_MISMATCH");
  EXPECT_TRUE(registry_.Delete(job.id(), etag).ok());
  EXPECT_EQ(registry_.Get(job.id()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store_.Load()->jobs.empty());
  EXPECT_NE(service_.Create(SpecFor(2), "r1").id(), job.id()) << "its request id is free again";
}

TEST_F(RegistryTest, DeleteRemovesTheFilesButNotTheCheckpoints) {
  const v1::Job job = service_.Create(SpecFor(2));
  service_.Settle();
  service_.Attach(job.id());
  service_.Succeed(job.id());
  const auto home = directory_.path() / "jobs" / job.id();
  ASSERT_TRUE(std::filesystem::exists(home / "attempts/1/run.json"));
  std::filesystem::create_directories(home / "checkpoints/step-00000010");
  ASSERT_TRUE(registry_.Delete(job.id(), "").ok());
  EXPECT_FALSE(std::filesystem::exists(home / "attempts"));
  EXPECT_TRUE(std::filesystem::exists(home / "checkpoints/step-00000010"));
}

TEST_F(RegistryTest, FilesThatCouldNotBeRemovedAreSaid) {
  HookedFiles files(service_.files);
  files.fail_remove = absl::UnavailableError("the disk is away");
  Registry registry(service_.table, files, clock_);
  const v1::Job job = service_.Create(SpecFor(1));
  ASSERT_TRUE(registry.Cancel(job.id(), std::nullopt).ok());
  const absl::Status status = registry.Delete(job.id(), "");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), "FILES_LEFT");
  EXPECT_THAT(std::string(status.message()), HasSubstr("is deleted, but files of it are left"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is away"));
}

TEST_F(RegistryTest, WatchGivesASnapshotThenOnlyChanges) {
  const v1::Job job = service_.Create(SpecFor(2));
  const auto first = registry_.NextChange(job.id(), "");
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ((*first)->job.state(), v1::JOB_STATE_QUEUED);
  EXPECT_FALSE(registry_.NextChange(job.id(), (*first)->cursor)->has_value());
  ASSERT_TRUE(registry_.Cancel(job.id(), std::nullopt).ok());
  const auto second = registry_.NextChange(job.id(), (*first)->cursor);
  ASSERT_TRUE(second->has_value());
  EXPECT_EQ((*second)->job.state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(RegistryTest, WatchersAreWokenByChanges) {
  const v1::Job job = service_.Create(SpecFor(2));
  int calls = 0;
  auto subscription = service_.table.Subscribe(job.id(), [&] { ++calls; });
  const uint64_t seen = service_.table.Activity(job.id());
  ASSERT_TRUE(registry_.Cancel(job.id(), std::nullopt).ok());
  EXPECT_EQ(calls, 1);
  EXPECT_NE(service_.table.WaitForActivity(job.id(), seen, absl::InfiniteDuration()), seen);
  subscription.reset();
  ASSERT_TRUE(registry_.Delete(job.id(), "").ok());
  EXPECT_EQ(calls, 1) << "nobody listens any more";
}

TEST_F(RegistryTest, EventsTellTheStoryInOrderAndByPages) {
  const v1::Job job = service_.Create(SpecFor(2));
  service_.Settle();
  service_.Attach(job.id());
  ASSERT_TRUE(service_.Report(job.id(), 0, "not json at all").ok());
  service_.Succeed(job.id());
  std::vector<std::string> story;
  std::set<std::string> ids;
  std::string token;
  do {
    const auto page = registry_.ListEvents(job.id(), 2, token, absl::InfinitePast());
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Event& event : page->events) {
      ids.insert(event.id());
      if (event.kind() == "state") story.push_back(StateName(event.state()));
    }
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_THAT(story, ElementsAre("QUEUED", "STARTING", "STARTING", "RUNNING", "SUCCEEDED"));
  EXPECT_EQ(ids.size(), 5u + 3u) << "two ready events and the garbage beside the states";
}

}  // namespace
}  // namespace ithaca
