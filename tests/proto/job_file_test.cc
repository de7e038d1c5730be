#include "proto/job_file.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ithaca {
namespace {

using google::protobuf::util::MessageDifferencer;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

constexpr char kShort[] = R"(
name: gutenberg-64k
model: {path: /models/Qwen3-4B}
data: {train: [/data/gutenberg.jsonl], sequence_length: 65536}
training: {steps: 200}
)";

constexpr char kLong[] = R"(
name: long
labels: {team: a-team, note: "7"}
priority: -2
model:
  path: /m
  dtype: bfloat16
  rope_scaling: {type: yarn, factor: 4, original_positions: 32768}
  lora: {rank: 8, alpha: 16, dropout: 0.1, targets: [q_proj, v_proj]}
data:
  train: [/a.txt, {path: /b/*.jsonl, weight: 0.5}]
  eval: [/c.txt]
  sequence_length: 4096
  packing: false
  shuffle: auto
  chat: {train_on: all}
parallelism: {sequence: 3, replicas: auto}
training:
  epochs: 1.5
  global_batch: 6
  learning_rate: 1.0e-4
  schedule: {type: wsd, warmup_steps: 10, min_ratio: 0}
  optimizer: {beta1: 0.8, weight_decay: 0.1, clip_norm: 0}
  seed: 9007199254740992
memory:
  sharding: parameters
  layer_inputs: offload
  attention_outputs: auto
  head_groups: 3
  loss_chunk: 512
  optimizer: host
evaluation: {every_steps: 10, sequences: 4}
checkpoint: {directory: /out, every_steps: 50, keep: 1, export: false, resume_from: latest}
resources: {device: cpu, nodes: 1, slots_per_node: 3, threads_per_rank: 2}
restart: {max_restarts: 0}
limits: {run_seconds: 60, start_seconds: 5}
)";

v1::JobSpec ParseGood(std::string_view text, const std::vector<std::string>& overrides = {}) {
  FieldMistakes mistakes;
  v1::JobSpec spec = ParseJobFile(text, overrides, mistakes);
  for (const FieldMistake& mistake : mistakes) ADD_FAILURE() << ToString(mistake);
  return spec;
}

std::vector<std::string> MistakesIn(std::string_view text, const std::vector<std::string>& overrides = {}) {
  FieldMistakes mistakes;
  ParseJobFile(text, overrides, mistakes);
  std::vector<std::string> sentences;
  for (const FieldMistake& mistake : mistakes) sentences.push_back(ToString(mistake));
  return sentences;
}

TEST(JobFile, ShortFileBecomesRunJsonWithNothingAdded) {
  EXPECT_EQ(ToRunJson(ParseGood(kShort)), json::parse(R"({
    "name": "gutenberg-64k",
    "model": {"path": "/models/Qwen3-4B"},
    "data": {"train": [{"path": "/data/gutenberg.jsonl"}], "sequence_length": 65536},
    "training": {"steps": 200}})"));
}

TEST(JobFile, LongFileBecomesRunJsonFieldByField) {
  EXPECT_EQ(ToRunJson(ParseGood(kLong)), json::parse(R"({
    "name": "long",
    "labels": {"team": "a-team", "note": "7"},
    "priority": -2,
    "model": {"path": "/m", "dtype": "bfloat16",
              "rope_scaling": {"type": "yarn", "factor": 4.0, "original_positions": 32768},
              "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}},
    "data": {"train": [{"path": "/a.txt"}, {"path": "/b/*.jsonl", "weight": 0.5}], "eval": [{"path": "/c.txt"}],
             "sequence_length": 4096, "packing": false, "chat": {"train_on": "all"}},
    "parallelism": {"sequence": 3},
    "training": {"epochs": 1.5, "global_batch": 6, "learning_rate": 1e-4,
                 "schedule": {"type": "wsd", "warmup_steps": 10, "min_ratio": 0.0},
                 "optimizer": {"beta1": 0.8, "weight_decay": 0.1, "clip_norm": 0.0}, "seed": 9007199254740992},
    "memory": {"sharding": "parameters", "layer_inputs": "offload", "head_groups": 3, "loss_chunk": 512,
               "optimizer": "host"},
    "evaluation": {"every_steps": 10, "sequences": 4},
    "checkpoint": {"directory": "/out", "every_steps": 50, "keep": 1, "export": false, "resume_from": "latest"},
    "resources": {"device": "cpu", "nodes": 1, "slots_per_node": 3, "threads_per_rank": 2},
    "restart": {"max_restarts": 0},
    "limits": {"run_seconds": 60, "start_seconds": 5}})"));
}

TEST(JobFile, NumbersStayNumbersInRunJson) {
  const json run = ToRunJson(ParseGood(kLong));
  EXPECT_TRUE(run["data"]["sequence_length"].is_number_integer());
  EXPECT_TRUE(run["training"]["seed"].is_number_integer());
  EXPECT_TRUE(run["training"]["learning_rate"].is_number_float());
  EXPECT_TRUE(run["checkpoint"]["export"].is_boolean());
}

TEST(JobFile, RunJsonReadsBackToAnEqualJob) {
  for (const char* text : {kShort, kLong}) {
    const v1::JobSpec spec = ParseGood(text);
    const v1::JobSpec again = ParseGood(ToRunJson(spec).dump());
    EXPECT_TRUE(MessageDifferencer::Equals(spec, again)) << spec.DebugString() << again.DebugString();
  }
}

TEST(JobFile, AutoAndNullAreTheSameAsAbsent) {
  const v1::JobSpec spec = ParseGood(std::string(kShort) +
                                     "parallelism: {sequence: auto, replicas: null}\nmemory: {sharding: auto, "
                                     "mlp_tile: ~}\nlabels:\nresources: {device: auto}\n");
  EXPECT_FALSE(spec.parallelism().has_sequence());
  EXPECT_FALSE(spec.parallelism().has_replicas());
  EXPECT_EQ(spec.memory().sharding(), v1::SHARDING_UNSPECIFIED);
  EXPECT_FALSE(spec.memory().has_mlp_tile());
  EXPECT_EQ(spec.resources().device(), v1::DEVICE_KIND_UNSPECIFIED);
}

TEST(JobFile, PlainStringFillsThePathOfAMessage) {
  const v1::JobSpec spec =
      ParseGood("name: a\nmodel: /m\ndata: {train: [/x], sequence_length: 8}\ntraining: {steps: 1}");
  EXPECT_EQ(spec.model().path(), "/m");
  EXPECT_EQ(spec.data().train(0).path(), "/x");
}

TEST(JobFile, FiveMistakesComeBackAtOnceWithTheirLines) {
  EXPECT_THAT(
      MistakesIn("name: Bad_Name\n"
                 "model: {path: /m, dtype: bfloat}\n"
                 "data:\n"
                 "  train: [/a.txt]\n"
                 "  sequence_lenght: 4096\n"
                 "parallelism: {sequence: 0}\n"
                 "training: {steps: many}\n"),
      ElementsAre("line 1: name: must be 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end",
                  "line 2: model.dtype: must be one of float32, bfloat16, not \"bfloat\"; did you mean bfloat16?",
                  "line 3: data.sequence_length: must be given, at least 2",
                  "line 5: data.sequence_lenght: is not a key here; did you mean sequence_length?",  //
                  "line 6: parallelism.sequence: must be at least 1, not 0",
                  "line 7: training.steps: must be a whole number, not \"many\""));
}

TEST(JobFile, EmptyFileSaysWhatMustBeGiven) {
  EXPECT_THAT(MistakesIn(""), ElementsAre("name: must be given", "model: must be given", "data: must be given",
                                          "training: must be given"));
}

TEST(JobFile, WrongTypesAreNamedForWhatTheyAre) {
  EXPECT_THAT(MistakesIn(std::string(kShort) + "priority: \"3\"\nmemory: [1]\nrestart: {max_restarts: {a: b}}\n"
                                               "limits: {run_seconds: 1.5}\nlabels: 7\n"),
              UnorderedElementsAre("line 6: priority: must be a whole number, not \"3\"",
                                   "line 7: memory: must be a map, not a list",
                                   "line 8: restart.max_restarts: must be a whole number, not a map",
                                   "line 9: limits.run_seconds: must be a whole number, not \"1.5\"",
                                   "line 10: labels: must be a map, not \"7\""));
}

TEST(JobFile, NumbersOutOfRangeNameTheLimit) {
  const std::string head = "name: a\nmodel: /m\ntraining: {steps: 1, learning_rate: 0, optimizer: {beta1: 1}}\n";
  EXPECT_THAT(MistakesIn(head + "data: {train: [{path: /x, weight: -1}], sequence_length: 1}\n"),
              UnorderedElementsAre("line 4: data.train[0].weight: must be greater than 0, not -1",
                                   "line 4: data.sequence_length: must be at least 2, not 1",
                                   "line 3: training.learning_rate: must be greater than 0, not 0",
                                   "line 3: training.optimizer.beta1: must be less than 1, not 1"));
  EXPECT_THAT(MistakesIn(std::string(kShort) + "priority: 99999999999\n"),
              ElementsAre("line 6: priority: must be a whole number, not \"99999999999\""));
  EXPECT_THAT(MistakesIn(kShort, {"training.learning_rate=nan"}),
              ElementsAre("training.learning_rate: must be a finite number"));
}

TEST(JobFile, FieldsThatContradictEachOtherAreRefused) {
  EXPECT_THAT(MistakesIn(kShort, {"training.epochs=1"}),
              ElementsAre("training.epochs: must not be given together with training.steps"));
  EXPECT_THAT(MistakesIn(kShort, {"evaluation.every_steps=5"}),
              ElementsAre("line 4: data.eval: must be given when evaluation.every_steps is"));
  EXPECT_THAT(MistakesIn(kShort, {"parallelism.replicas=2", "training.global_batch=3"}),
              ElementsAre(HasSubstr("must be a multiple of parallelism.replicas (2), not 3")));
}

TEST(JobFile, StepsOrEpochsMustBeGiven) {
  EXPECT_THAT(MistakesIn("name: a\nmodel: /m\ndata: {train: [/x], sequence_length: 8}\ntraining: {seed: 1}\n"),
              ElementsAre("line 4: training.steps: must be given, or training.epochs"));
}

TEST(JobFile, KeyGivenTwiceIsRefused) {
  EXPECT_THAT(MistakesIn(std::string(kShort) + "name: b\n"), ElementsAre("line 6: name: is given twice"));
}

TEST(JobFile, OverridesReplaceValuesAndListsAndAddToMaps) {
  const v1::JobSpec spec = ParseGood(kLong, {"training.epochs=3", "data.train=[/z.txt]", "labels.owner=me",
                                             "memory.sharding=auto", "training.optimizer.beta2=0.99"});
  EXPECT_EQ(spec.training().epochs(), 3);
  ASSERT_EQ(spec.data().train_size(), 1);
  EXPECT_EQ(spec.data().train(0).path(), "/z.txt");
  EXPECT_EQ(spec.labels().at("owner"), "me");
  EXPECT_EQ(spec.labels().at("team"), "a-team");
  EXPECT_EQ(spec.memory().sharding(), v1::SHARDING_UNSPECIFIED);
  EXPECT_EQ(spec.training().optimizer().beta1(), 0.8);
  EXPECT_EQ(spec.training().optimizer().beta2(), 0.99);
}

TEST(JobFile, OverrideWithNullTakesAValueAway) {
  const v1::JobSpec spec = ParseGood(kLong, {"training.epochs=null", "training.steps=3"});
  EXPECT_FALSE(spec.training().has_epochs());
  EXPECT_EQ(spec.training().steps(), 3);
}

TEST(JobFile, WrongOverridesAreNamedByTheirKey) {
  EXPECT_THAT(MistakesIn(kShort, {"training.stepz=1", "nonsense", "training.steps=x"}),
              ElementsAre("training.stepz: is not a key here; did you mean steps?",
                          "nonsense: an override has the form key=value, such as training.steps=20",
                          "training.steps: must be a whole number, not \"x\""));
}

TEST(ValidateJobSpec, AcceptsWhatTheConverterAccepts) { EXPECT_THAT(ValidateJobSpec(ParseGood(kLong)), IsEmpty()); }

TEST(ValidateJobSpec, FindsEveryBadFieldOfAMessage) {
  v1::JobSpec spec = ParseGood(kShort);
  spec.set_priority(5000);
  spec.mutable_data()->clear_train();
  spec.mutable_memory()->set_sharding(static_cast<v1::Sharding>(77));
  (*spec.mutable_labels())["key"] = std::string(2000, 'x');
  spec.mutable_model()->set_path(std::string("/m\0x", 4));
  EXPECT_THAT(
      ValidateJobSpec(spec),
      UnorderedElementsAre(FieldMistake{"priority", 0, "must be at most 1000, not 5000"},
                           FieldMistake{"data.train", 0, "must be given"},
                           FieldMistake{"memory.sharding", 0, "must be one of none, optimizer, gradients, parameters"},
                           FieldMistake{"labels.key", 0, "must be at most 1024 bytes long, not 2000"},
                           FieldMistake{"model.path", 0, "must not contain a NUL character"}));
}

}  // namespace
}  // namespace ithaca
