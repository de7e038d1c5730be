#include "client/job_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace ithaca::client {
namespace {

namespace fs = std::filesystem;

constexpr char kJob[] =
    "name: a\nmodel: model\ndata: {train: [a.txt, /abs/b.txt], eval: [x/../c.txt], sequence_length: 8}\n"
    "training: {steps: 1}\ncheckpoint: {directory: out, resume_from: latest}\n";

// A directory of its own that is the current one while a test runs.
class JobSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = fs::current_path();
    std::string name = (fs::temp_directory_path() / "ithaca-job-source-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = fs::canonical(name);
    fs::current_path(directory_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(directory_);
  }
  void Write(const fs::path& path, const std::string& text) {
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  fs::path before_, directory_;
  std::istringstream no_input_;
};

TEST_F(JobSourceTest, PathsBecomeAbsoluteAndTheModelsConfigIsRead) {
  Write("job.yaml", kJob);
  Write("model/config.json", "{\"model_type\": \"llama\"}");
  const auto job = LoadJob({"job.yaml", {}}, no_input_);
  ASSERT_TRUE(job.ok()) << job.status();
  const std::string here = directory_.string();
  EXPECT_EQ(job->spec.model().path(), here + "/model");
  EXPECT_EQ(job->spec.data().train(0).path(), here + "/a.txt");
  EXPECT_EQ(job->spec.data().train(1).path(), "/abs/b.txt");
  EXPECT_EQ(job->spec.data().eval(0).path(), here + "/c.txt");
  EXPECT_EQ(job->spec.checkpoint().directory(), here + "/out");
  EXPECT_EQ(job->spec.checkpoint().resume_from(), "latest");
  EXPECT_EQ(job->model_config_json, "{\"model_type\": \"llama\"}");
}

TEST_F(JobSourceTest, StandardInputAndOverridesWork) {
  std::istringstream input(kJob);
  const auto job = LoadJob({"-", {"training.steps=9"}}, input);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->spec.training().steps(), 9);
  EXPECT_EQ(job->model_config_json, "");
}

TEST_F(JobSourceTest, EmptyPathsStayEmpty) {
  std::istringstream input(
      "name: a\nmodel: /m\ndata: {train: [/x], sequence_length: 8}\ntraining: {steps: 1}\n"
      "checkpoint: {keep: 3}\n");
  const auto job = LoadJob({"-", {}}, input);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->spec.checkpoint().directory(), "");
  EXPECT_EQ(job->spec.checkpoint().resume_from(), "");
}

TEST_F(JobSourceTest, MistakesAreListedWithTheFilesName) {
  Write("job.yaml", "name: a\nmodel: /m\ndata: {train: [/x], sequence_length: 8}\ntraining: {stepz: 1}\n");
  const auto job = LoadJob({"job.yaml", {}}, no_input_);
  EXPECT_EQ(job.status(),
            absl::InvalidArgumentError(
                "job.yaml has 2 mistakes\n  line 4: training.stepz: is not a key here; did you mean steps?\n"
                "  line 4: training.steps: must be given, or training.epochs"));
}

TEST_F(JobSourceTest, MissingFileAndDirectoryAreNotFound) {
  EXPECT_TRUE(absl::IsNotFound(LoadJob({"nowhere.yaml", {}}, no_input_).status()));
  EXPECT_TRUE(absl::IsNotFound(LoadJob({directory_.string(), {}}, no_input_).status()));
}

}  // namespace
}  // namespace ithaca::client
