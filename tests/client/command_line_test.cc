// The command line against a scripted JobService: what is sent, what is printed, how it ends.
#include "client/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "proto/errors.h"
#include "tests/client/fake_job_service.h"

namespace ithaca::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CommandLineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "ithaca-command-line-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    std::ofstream(JobFile()) << "name: book\nmodel: " << name << "\ndata: {train: [/x], sequence_length: 8}\n"
                             << "training: {steps: 3}\n";
    std::ofstream(directory_ / "config.json") << "{\"model_type\": \"llama\"}";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string JobFile() const { return (directory_ / "job.yaml").string(); }

  int Run(const std::vector<std::string>& arguments) { return RunOn(service_.address(), arguments); }
  int RunOn(const std::string& server, const std::vector<std::string>& arguments) {
    out_.str("");
    err_.str("");
    Terminal terminal{out_, err_, interactive_, 100};
    return RunCommandLine(arguments, server, terminal);
  }

  static v1::Job MakeJob(const std::string& id, v1::JobState state) {
    v1::Job job;
    job.set_id(id);
    job.set_name("book");
    job.set_state(state);
    job.mutable_spec()->mutable_training()->set_steps(3);
    return job;
  }
  static v1::StreamMetricsResponse MakeStep(int step, double loss) {
    v1::StreamMetricsResponse metrics;
    metrics.mutable_step()->set_step(step);
    metrics.mutable_step()->set_loss(loss);
    return metrics;
  }

  FakeJobService service_;
  std::filesystem::path directory_;
  std::ostringstream out_, err_;
  bool interactive_ = false;
};

TEST_F(CommandLineTest, SubmitSendsTheJobItsModelAndAFreshRequestId) {
  EXPECT_EQ(Run({"submit", JobFile(), "--set", "training.steps=7"}), 0);
  EXPECT_EQ(Run({"submit", JobFile()}), 0);
  ASSERT_EQ(service_.created.size(), 2u);
  EXPECT_EQ(service_.created[0].job_spec().training().steps(), 7);
  EXPECT_EQ(service_.created[0].model_config_json(), "{\"model_type\": \"llama\"}");
  EXPECT_FALSE(service_.created[0].validate_only());
  EXPECT_EQ(service_.created[0].request_id().size(), 32u);
  EXPECT_NE(service_.created[0].request_id(), service_.created[1].request_id());
  EXPECT_EQ(out_.str(), "submitted book as j-1\nfollow it with: ithaca watch j-1\n");
}

TEST_F(CommandLineTest, DryRunPrintsThePlanAndSubmitsNothing) {
  EXPECT_EQ(Run({"submit", JobFile(), "--dry-run"}), 0);
  EXPECT_TRUE(service_.created.at(0).validate_only());
  EXPECT_EQ(out_.str(), "parameters  1.00 GiB\nThe job is valid. Nothing was submitted.\n");
}

TEST_F(CommandLineTest, JobThatDoesNotFitEndsWithItsOwnCode) {
  service_.fail = MakeError(absl::StatusCode::kFailedPrecondition, "DOES_NOT_FIT", "needs 90 GiB of 80 GiB");
  EXPECT_EQ(Run({"submit", JobFile()}), 4);
  EXPECT_EQ(err_.str(), "ithaca: needs 90 GiB of 80 GiB\n");
}

TEST_F(CommandLineTest, MistakesInTheJobFileAreListedAndNothingIsSent) {
  EXPECT_EQ(Run({"submit", JobFile(), "--set", "training.learning_rate=0", "--set", "priorty=1"}), 3);
  EXPECT_TRUE(service_.created.empty());
  EXPECT_THAT(err_.str(), HasSubstr("has 2 mistakes\n"));
  EXPECT_THAT(err_.str(), HasSubstr("  priorty: is not a key here; did you mean priority?\n"));
  EXPECT_THAT(err_.str(), HasSubstr("  training.learning_rate: must be greater than 0, not 0\n"));
}

TEST_F(CommandLineTest, MistakesFoundByTheCoordinatorAreListedToo) {
  service_.fail = InvalidFields({{"model.path", 0, "is not allowed here"}, {"resources.profile", 0, "is unknown"}});
  EXPECT_EQ(Run({"submit", JobFile()}), 3);
  EXPECT_EQ(err_.str(),
            "ithaca: the coordinator refused the job: 2 mistakes in the request\n"
            "  model.path: is not allowed here\n  resources.profile: is unknown\n");
}

TEST_F(CommandLineTest, UnreachableCoordinatorIsOneSentence) {
  const std::string gone = "127.0.0.1:1";  // below the ports that are given out; nothing listens there
  EXPECT_EQ(RunOn(gone, {"list"}), 6);
  EXPECT_THAT(err_.str(), StartsWith("ithaca: the coordinator at " + gone + " cannot be reached ("));
  const std::string text = err_.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST_F(CommandLineTest, ServerOptionWinsOverTheEnvironment) {
  EXPECT_EQ(RunOn("127.0.0.1:1", {"list", "--server", service_.address()}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("no jobs yet"));
}

TEST_F(CommandLineTest, ListReadsAllPagesUpToTheLimit) {
  for (int i = 0; i < 450; ++i) service_.jobs.push_back(MakeJob("j-" + std::to_string(i), v1::JOB_STATE_QUEUED));
  EXPECT_EQ(Run({"list", "--limit", "0", "--filter", "state=QUEUED", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["jobs"].size(), 450u);
  EXPECT_EQ(service_.filters, std::vector<std::string>(3, "state=QUEUED"));
  EXPECT_EQ(Run({"list", "-n", "10"}), 0);
  const std::string table = out_.str();
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 11);
  EXPECT_THAT(err_.str(), HasSubstr("there are more"));
}

TEST_F(CommandLineTest, GetFindsAJobByItsIdOrTheLatest) {
  service_.jobs = {MakeJob("j-2", v1::JOB_STATE_RUNNING), MakeJob("j-1", v1::JOB_STATE_FAILED)};
  EXPECT_EQ(Run({"get", "j-1", "-o", "yaml"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("id: j-1\n"));
  EXPECT_THAT(out_.str(), HasSubstr("state: failed\n"));
  EXPECT_EQ(Run({"get", "latest"}), 0);
  EXPECT_THAT(out_.str(), StartsWith("job          j-2\n"));
  EXPECT_EQ(Run({"get", "j-9"}), 5);
  EXPECT_EQ(err_.str(), "ithaca: there is no job j-9\n");
}

TEST_F(CommandLineTest, WatchPrintsEveryStepOnceAndEndsByTheState) {
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_QUEUED), MakeJob("j-1", v1::JOB_STATE_RUNNING),
                    MakeJob("j-1", v1::JOB_STATE_RUNNING), MakeJob("j-1", v1::JOB_STATE_SUCCEEDED)};
  service_.metrics = {MakeStep(1, 3.5), MakeStep(2, 3.25), MakeStep(3, 3.0)};
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  std::vector<std::string> lines;
  std::istringstream text(out_.str());
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  EXPECT_THAT(lines,
              ElementsAre("j-1  book  QUEUED", StartsWith("step 1/3  loss 3.5000"), StartsWith("step 2/3  loss 3.2500"),
                          StartsWith("step 3/3  loss 3.0000"), "j-1  book  RUNNING", "j-1  book  SUCCEEDED"));
}

TEST_F(CommandLineTest, LastStepsComeBeforeTheEnd) {
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_SUCCEEDED)};
  service_.metrics = {MakeStep(3, 3.0)};
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  EXPECT_THAT(out_.str(), StartsWith("step 3/3"));
  EXPECT_THAT(out_.str(), ::testing::EndsWith("j-1  book  SUCCEEDED\n"));
}

TEST_F(CommandLineTest, WatchEndsWithTheDocumentedCodes) {
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_FAILED)};
  EXPECT_EQ(Run({"watch", "j-1"}), 10);
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_CANCELLED)};
  EXPECT_EQ(Run({"watch", "j-1"}), 11);
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_RUNNING)};
  EXPECT_EQ(Run({"watch", "j-1"}), 1);
}

TEST_F(CommandLineTest, WatchGoesOnAtTheCursorAfterALostConnection) {
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_STARTING), MakeJob("j-1", v1::JOB_STATE_RUNNING),
                    MakeJob("j-1", v1::JOB_STATE_SUCCEEDED)};
  service_.break_watch_after = 2;
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  EXPECT_THAT(service_.watch_cursors, ElementsAre("", "2"));
  EXPECT_EQ(out_.str(), "j-1  book  STARTING\nj-1  book  RUNNING\nj-1  book  SUCCEEDED\n");
  EXPECT_THAT(err_.str(), HasSubstr("lost the coordinator"));
}

TEST_F(CommandLineTest, WatchGoesOnHoweverTheCoordinatorCutIt) {
  for (const absl::Status& cut :
       {absl::CancelledError("CANCELLED"), MakeError(absl::StatusCode::kUnavailable, "DRAINING", "shutting down")}) {
    for (const int after : {0, 1}) {
      service_.watch = {MakeJob("j-1", v1::JOB_STATE_RUNNING), MakeJob("j-1", v1::JOB_STATE_SUCCEEDED)};
      service_.break_with = cut;
      service_.break_watch_after = after;
      EXPECT_EQ(Run({"watch", "j-1"}), 0) << cut << " after " << after;
      EXPECT_EQ(out_.str(), "j-1  book  RUNNING\nj-1  book  SUCCEEDED\n");
    }
  }
}

TEST_F(CommandLineTest, FollowedLogsGoOnEvenIfNothingHadComeYet) {
  service_.break_logs = 2;
  service_.logs.emplace_back().set_data("hello\n");
  EXPECT_EQ(Run({"logs", "-f", "j-1", "--rank", "0"}), 0);
  EXPECT_EQ(out_.str(), "hello\n");
}

TEST_F(CommandLineTest, AnUnreachableCoordinatorIsNotWaitedFor) {
  for (const char* verb : {"watch", "logs", "metrics"}) EXPECT_EQ(RunOn("127.0.0.1:1", {verb, "j-1"}), 6) << verb;
}

TEST_F(CommandLineTest, WhatTheCoordinatorItselfSaysIsNotTakenForSilence) {
  service_.fail = MakeError(absl::StatusCode::kUnavailable, "STORAGE_FAILED", "cannot write /state/state.db");
  EXPECT_EQ(Run({"delete", "j-1"}), 1);
  EXPECT_EQ(err_.str(), "ithaca: cannot write /state/state.db\n");
  EXPECT_EQ(Run({"watch", "j-1"}), 1) << "it is not asked again either";
  EXPECT_EQ(service_.watch_cursors.size(), 1u);
}

TEST_F(CommandLineTest, TlsFilesThatCannotBeUsedAreOneSentence) {
  EXPECT_EQ(Run({"list", "--tls-ca", "/no/such.pem"}), 5);
  EXPECT_EQ(err_.str(), "ithaca: /no/such.pem cannot be read or is not a PEM file\n");
  EXPECT_EQ(Run({"list", "--tls-ca", JobFile()}), 5);
  EXPECT_EQ(err_.str(), "ithaca: " + JobFile() + " cannot be read or is not a PEM file\n");
  EXPECT_EQ(Run({"list", "--tls-cert", JobFile()}), 2);
}

TEST_F(CommandLineTest, WatchOnATerminalDrawsOverItself) {
  interactive_ = true;
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_RUNNING), MakeJob("j-1", v1::JOB_STATE_SUCCEEDED)};
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("book   RUNNING   j-1"));
  EXPECT_THAT(out_.str(), HasSubstr("\x1b[2A\rbook   SUCCEEDED   j-1"));
}

TEST_F(CommandLineTest, SubmitAndWatchInOne) {
  service_.watch = {MakeJob("j-1", v1::JOB_STATE_FAILED)};
  EXPECT_EQ(Run({"submit", JobFile(), "--watch"}), 10);
  EXPECT_EQ(out_.str(), "submitted book as j-1\nj-1  book  FAILED\n");
}

TEST_F(CommandLineTest, LogsOfSeveralRanksNameTheRankOfEveryLine) {
  for (const auto& [rank, data] : {std::pair{0, "one\ntw"}, {1, "eins\n"}, {0, "o\nend"}}) {
    v1::StreamLogsResponse chunk;
    chunk.set_rank(rank);
    chunk.set_data(data);
    service_.logs.push_back(chunk);
  }
  EXPECT_EQ(Run({"logs", "j-1", "-f"}), 0);
  EXPECT_EQ(out_.str(), "rank 0 | one\nrank 1 | eins\nrank 0 | two\nrank 0 | end\n");
  EXPECT_TRUE(service_.logs_request.follow());
  EXPECT_EQ(Run({"logs", "j-1", "--rank", "0", "--attempt", "2"}), 0);
  EXPECT_THAT(service_.logs_request.ranks(), ElementsAre(0));
  EXPECT_EQ(service_.logs_request.attempt(), 2);
}

TEST_F(CommandLineTest, EventsReadsAllPages) {
  for (int i = 0; i < 3; ++i) {
    v1::Event event;
    event.set_kind("ready");
    event.set_rank(i);
    service_.events.push_back(event);
  }
  EXPECT_EQ(Run({"events", "j-1", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["events"].size(), 3u);
}

TEST_F(CommandLineTest, MetricsAreATableOrOneJsonObjectALine) {
  service_.metrics = {MakeStep(1, 3.5), MakeStep(2, 3.25)};
  EXPECT_EQ(Run({"metrics", "j-1"}), 0);
  EXPECT_THAT(out_.str(), StartsWith("    STEP"));
  EXPECT_EQ(Run({"metrics", "j-1", "-o", "json"}), 0);
  std::istringstream lines(out_.str());
  std::string line;
  for (int step = 1; std::getline(lines, line); ++step) EXPECT_EQ(nlohmann::json::parse(line)["step"]["step"], step);
}

TEST_F(CommandLineTest, CancelAndDeleteSayWhatTheyDid) {
  service_.jobs = {MakeJob("j-1", v1::JOB_STATE_RUNNING)};
  EXPECT_EQ(Run({"cancel", "j-1", "--grace", "60"}), 0);
  EXPECT_EQ(service_.cancelled.at(0).grace_period().seconds(), 60);
  EXPECT_EQ(out_.str(), "j-1  book  STOPPING\n");
  EXPECT_EQ(Run({"delete", "latest"}), 0);
  EXPECT_EQ(service_.deleted.at(0).job_id(), "j-1");
  service_.fail = MakeError(absl::StatusCode::kFailedPrecondition, "JOB_NOT_TERMINAL", "the job runs; cancel it first");
  EXPECT_EQ(Run({"delete", "j-1"}), 7);
}

TEST_F(CommandLineTest, WrongCommandLinesEndWithTwo) {
  EXPECT_EQ(Run({}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("Exit codes:"));
  EXPECT_EQ(Run({"wacth"}), 2);
  EXPECT_EQ(err_.str(), "ithaca: there is no verb wacth; did you mean watch?\n");
  EXPECT_EQ(Run({"get"}), 2);
  EXPECT_EQ(Run({"list", "-o", "xml"}), 2);
  EXPECT_EQ(Run({"cancel", "j-1", "--grace", "-3"}), 2);
}

TEST_F(CommandLineTest, EveryVerbExplainsItself) {
  for (const char* verb :
       {"submit", "estimate", "list", "get", "watch", "logs", "events", "metrics", "cancel", "delete"}) {
    EXPECT_EQ(Run({verb, "--help"}), 0) << verb;
    EXPECT_THAT(out_.str(), HasSubstr(std::string("ithaca ") + verb)) << verb;
    EXPECT_THAT(out_.str(), HasSubstr("Example")) << verb;
  }
}

}  // namespace
}  // namespace ithaca::client
