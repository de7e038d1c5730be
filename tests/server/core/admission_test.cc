#include "server/core/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "proto/errors.h"
#include "proto/job_file.h"
#include "tests/server/core/service_fixture.h"
#include "worker/plan/run_config.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using testing::IsSupersetOf;

const std::vector<Node> kNodes = {{"n1", {{v1::DEVICE_KIND_CPU, "cpu", 2, int64_t{64} << 30, 0, 3}}}};

constexpr char kModel[] = R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,
  "intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":256,
  "max_position_embeddings":512,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
  "hidden_act":"silu"})";

std::vector<std::string> FieldsOf(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const FieldMistake& mistake : MistakesOf(status)) fields.push_back(mistake.field);
  return fields;
}

TEST(Admit, WithoutTheModelThePlanIsUnchecked) {
  const auto admission = Admit(SpecFor(2), "", kNodes);
  ASSERT_TRUE(admission.ok()) << admission.status();
  EXPECT_TRUE(admission->plan.unchecked());
  EXPECT_TRUE(admission->plan.fits());
  EXPECT_EQ(admission->plan.sequence_ranks(), 2);
  EXPECT_EQ(admission->demand.slots(), 2);
  EXPECT_EQ(admission->demand.device, v1::DEVICE_KIND_CPU);
}

TEST(Admit, WithTheModelThereIsATable) {
  const auto admission = Admit(SpecFor(2), kModel, kNodes);
  ASSERT_TRUE(admission.ok()) << admission.status();
  EXPECT_FALSE(admission->plan.unchecked());
  EXPECT_TRUE(admission->plan.fits()) << admission->plan.table();
  EXPECT_GT(admission->plan.total_bytes(), 0);
  EXPECT_GT(admission->plan.terms_size(), 0);
  EXPECT_FALSE(admission->plan.table().empty());
  EXPECT_EQ(admission->plan.sequence_ranks(), 2);
}

TEST(Admit, FiveMistakesComeBackAtOnce) {
  v1::JobSpec spec = SpecFor(2);
  spec.set_name("Not A Label");
  spec.mutable_model()->clear_path();
  spec.mutable_data()->set_sequence_length(1);
  spec.mutable_training()->set_learning_rate(-1);
  spec.mutable_checkpoint()->set_keep(0);
  const auto admission = Admit(spec, "", kNodes);
  EXPECT_EQ(admission.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(admission.status()), "INVALID_FIELDS");
  const std::vector<std::string> fields = FieldsOf(admission.status());
  EXPECT_THAT(fields, IsSupersetOf(
                          {"name", "model.path", "data.sequence_length", "training.learning_rate", "checkpoint.keep"}));
  EXPECT_EQ(std::set<std::string>(fields.begin(), fields.end()).size(), fields.size()) << "a field is named once";
}

TEST(Admit, WhatTheEngineDoesNotImplementIsRefusedHere) {
  v1::JobSpec spec = SpecFor(2);
  spec.mutable_model()->mutable_lora()->set_rank(8);
  EXPECT_THAT(FieldsOf(Admit(spec, "", kNodes).status()), IsSupersetOf({"model.lora.rank"}));
}

TEST(Admit, MoreSlotsThanThereAreIsSaidAtOnce) {
  const absl::Status status = Admit(SpecFor(3), "", kNodes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "TOO_LARGE");
  EXPECT_THAT(std::string(status.message()), HasSubstr("needs 3 CPU slots"));
}

TEST(Admit, AModelThatIsNoJsonIsAMistake) {
  EXPECT_THAT(FieldsOf(Admit(SpecFor(2), "{", kNodes).status()), IsSupersetOf({"model_config_json"}));
  EXPECT_THAT(FieldsOf(Admit(SpecFor(2), "[]", kNodes).status()), IsSupersetOf({"model_config_json"}));
}

TEST(Admit, AnUnsupportedModelIsNamed) {
  const absl::Status status = Admit(SpecFor(2), R"({"model_type":"mamba"})", kNodes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("mamba"));
}

TEST(Admit, AJobThatIsTooLargeForAnAssignmentIsRefusedAndItsLargestFieldNamed) {
  v1::JobSpec spec = SpecFor(2);
  while (ToRunJson(spec).dump(2).size() <= kMaxJobFileBytes) {
    ASSERT_TRUE(Admit(spec, "", kNodes).ok());
    for (int i = 0; i < 5000; ++i) spec.mutable_data()->add_train()->set_path("/data/a-document-with-a-long-name.txt");
  }
  const absl::Status status = Admit(spec, "", kNodes).status();
  EXPECT_EQ(ReasonOf(status), "INVALID_FIELDS");
  EXPECT_THAT(FieldsOf(status), testing::ElementsAre("data.train"));
}

TEST(Admit, RanksAndSlotsMustAgree) {
  v1::JobSpec spec = SpecFor(2);
  spec.mutable_resources()->set_slots_per_node(1);
  EXPECT_THAT(FieldsOf(Admit(spec, "", kNodes).status()), IsSupersetOf({"resources.slots_per_node"}));
}

TEST(CheckFits, RefusesWithTheTableAndTheWayOut) {
  v1::Plan plan;
  plan.set_fits(false);
  plan.set_table("| term |");
  plan.set_suggestion("Use sequence_length 1024.");
  const absl::Status status = CheckFits(plan);
  EXPECT_EQ(ReasonOf(status), "DOES_NOT_FIT");
  EXPECT_THAT(std::string(status.message()), HasSubstr("| term |"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("1024"));
}

JobRecord RecordFor(const v1::JobSpec& spec) {
  JobRecord record;
  const auto admission = Admit(spec, kModel, kNodes);
  EXPECT_TRUE(admission.ok()) << admission.status();
  *record.job.mutable_spec() = spec;
  *record.job.mutable_plan() = admission->plan;
  record.demand = admission->demand;
  return record;
}

TEST(RunJson, FillsInWhatTheJobLeftOpen) {
  const std::vector<NodePlacement> placement = {{"n1", v1::DEVICE_KIND_CPU, {0, 1}}};
  const nlohmann::json run = *RunJson(RecordFor(SpecFor(2)), 1, placement, kNodes, "/state/checkpoints", false);
  EXPECT_EQ(run["checkpoint"]["directory"], "/state/checkpoints");
  EXPECT_FALSE(run["checkpoint"].contains("resume_from"));
  EXPECT_EQ(run["resources"]["threads_per_rank"], 3);
  EXPECT_EQ(run["resources"]["device"], "cpu");
  EXPECT_EQ(run["parallelism"]["sequence"], 2);
  EXPECT_EQ(run["parallelism"]["replicas"], 1);
  EXPECT_EQ(run["training"]["steps"], 10);
  plan::Problems problems;
  plan::ParseRunConfig(run, problems);
  EXPECT_TRUE(problems.empty()) << problems[0].path << " " << problems[0].message;
}

TEST(RunJson, EveryChoiceOfThePlanIsInIt) {
  const JobRecord record = RecordFor(SpecFor(2));
  const std::vector<NodePlacement> placement = {{"n1", v1::DEVICE_KIND_CPU, {0, 1}}};
  const nlohmann::json run = *RunJson(record, 1, placement, kNodes, "/c", false);
  int found = 0;
  for (const v1::PlanChoice& choice : record.job.plan().choices()) {
    if (choice.value() == "all") continue;
    const size_t dot = choice.key().find('.');
    const nlohmann::json& value = run.at(choice.key().substr(0, dot)).at(choice.key().substr(dot + 1));
    EXPECT_EQ(value.is_string() ? value.get<std::string>() : value.dump(), choice.value()) << choice.key();
    ++found;
  }
  EXPECT_GE(found, 6);
}

TEST(RunJson, AChoiceThatNoJobFileCanMakeIsAnInternalError) {
  JobRecord record = RecordFor(SpecFor(2));
  v1::PlanChoice& choice = *record.job.mutable_plan()->add_choices();
  choice.set_key("memory.loss_chunk");
  choice.set_value("many");
  const absl::Status status = RunJson(record, 1, {}, kNodes, "/c", false).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("memory.loss_chunk"));
}

TEST(RunJson, ARetryResumes) {
  const std::vector<NodePlacement> placement = {{"n1", v1::DEVICE_KIND_CPU, {0, 1}}};
  v1::JobSpec spec = SpecFor(2);
  EXPECT_EQ((*RunJson(RecordFor(spec), 2, placement, kNodes, "/c", true))["checkpoint"]["resume_from"], "latest");
  spec.mutable_checkpoint()->set_directory("/mine");
  spec.mutable_checkpoint()->set_resume_from("/other/step-00000005");
  const JobRecord record = RecordFor(spec);
  EXPECT_EQ((*RunJson(record, 1, placement, kNodes, "/c", false))["checkpoint"]["resume_from"], "/other/step-00000005");
  EXPECT_EQ((*RunJson(record, 2, placement, kNodes, "/c", false))["checkpoint"]["resume_from"], "/other/step-00000005");
  EXPECT_EQ((*RunJson(record, 2, placement, kNodes, "/c", true))["checkpoint"]["resume_from"], "latest");
  EXPECT_EQ((*RunJson(record, 2, placement, kNodes, "/c", true))["checkpoint"]["directory"], "/mine");
}

}  // namespace
}  // namespace ithaca
