// The whole service with the real engine and a tiny random model: two ranks, a coordinator that is killed in the
// middle, a model at the end that is there to be loaded.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tests/cluster/mini_cluster.h"
#include "tests/fakes/wait_for.h"

namespace ithaca::cluster {
namespace {

using fakes::WaitFor;

class RealEngineTest : public ::testing::Test {
 protected:
  RealEngineTest() : cluster_({.cpu_slots = 2, .engine = ITHACA_ENGINE}) {
    const std::string make_model = absl::StrCat(PYTHON, " ", TINY_MODEL, " ", cluster_.path(""), " >/dev/null 2>&1");
    EXPECT_EQ(std::system(make_model.c_str()), 0) << make_model;
  }

  v1::JobSpec TinyJob(int steps) {
    v1::JobSpec spec;
    spec.set_name("tiny");
    spec.mutable_model()->set_path(cluster_.path("model"));
    spec.mutable_data()->add_train()->set_path(cluster_.path("documents.jsonl"));
    spec.mutable_data()->set_sequence_length(128);
    spec.mutable_parallelism()->set_sequence(2);
    spec.mutable_training()->set_steps(steps);
    spec.mutable_resources()->set_threads_per_rank(1);
    return spec;
  }

  MiniCluster cluster_;
};

TEST_F(RealEngineTest, TrainsThroughAKilledCoordinatorAndExportsAModel) {
  constexpr int kSteps = 300;
  const std::string id = cluster_.Submit(TinyJob(kSteps));
  ASSERT_TRUE(WaitFor([&] { return cluster_.Get(id).progress().step() >= 5; }));
  cluster_.Kill();
  cluster_.Start();
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  const v1::Job job = cluster_.Get(id);
  EXPECT_EQ(job.attempt(), 1);
  std::vector<int64_t> all(kSteps);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(cluster_.Steps(id), all);
  EXPECT_TRUE(std::filesystem::exists(job.export_path() + "/model.safetensors")) << job.export_path();
  EXPECT_TRUE(std::filesystem::exists(job.export_path() + "/config.json"));
  ASSERT_EQ(job.checkpoints_size(), 1);
  EXPECT_TRUE(std::filesystem::exists(job.checkpoints(0).path() + "/MANIFEST.json"));
}

TEST_F(RealEngineTest, MissingDocumentsFailTheJobWithTheUsersBlame) {
  v1::JobSpec spec = TinyJob(3);
  spec.mutable_data()->mutable_train(0)->set_path(cluster_.path("nowhere.jsonl"));
  const std::string id = cluster_.Submit(spec);
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_FAILED));
  const v1::Job job = cluster_.Get(id);
  EXPECT_EQ(job.reason(), v1::JOB_REASON_INVALID_DATA);
  EXPECT_EQ(job.blame(), v1::BLAME_USER);
  EXPECT_THAT(job.message(), ::testing::HasSubstr("nowhere.jsonl"));
}

}  // namespace
}  // namespace ithaca::cluster
