// What no user means to send: the converter answers with mistakes, whatever it gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "proto/job_file.h"

namespace ithaca {
namespace {

FieldMistakes MistakesIn(const std::string& text) {
  FieldMistakes mistakes;
  ParseJobFile(text, {}, mistakes);
  return mistakes;
}

std::string Repeat(const std::string& piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

TEST(JobFileGarbage, DeepNestingIsRefused) {
  EXPECT_FALSE(MistakesIn(Repeat("[", 100000)).empty());
  EXPECT_FALSE(MistakesIn(Repeat("{a: ", 100000)).empty());
  EXPECT_FALSE(MistakesIn(Repeat("- ", 20000)).empty());
  EXPECT_FALSE(MistakesIn("model: " + Repeat("{path: ", 300) + Repeat("}", 300)).empty());
}

TEST(JobFileGarbage, HugeFileIsRefusedByItsSize) {
  const FieldMistakes mistakes = MistakesIn(std::string(kMaxJobFileBytes + 1, 'x'));
  ASSERT_EQ(mistakes.size(), 1u);
  EXPECT_EQ(mistakes[0].message, "a job file is at most 1048576 bytes, not 1048577");
}

TEST(JobFileGarbage, TextThatIsNotUtf8IsRefused) {
  const FieldMistakes mistakes = MistakesIn("name: a\xff\xfe");
  ASSERT_EQ(mistakes.size(), 1u);
  EXPECT_EQ(mistakes[0].message, "a job file must be UTF-8 text");
}

TEST(JobFileGarbage, BrokenYamlNamesItsLine) {
  const FieldMistakes mistakes = MistakesIn("name: a\nmodel: {path: /m\ndata: ]\n");
  ASSERT_EQ(mistakes.size(), 1u);
  EXPECT_GE(mistakes[0].line, 2);
  EXPECT_THAT(mistakes[0].message, ::testing::HasSubstr("not readable as YAML or JSON"));
}

TEST(JobFileGarbage, AliasesThatMultiplyCostNothing) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string before = absl::StrCat("*a", i - 1);
    absl::StrAppend(&text, "a", i, ": &a", i, " [", Repeat(before + ", ", 8), before, "]\n");
  }
  EXPECT_GE(MistakesIn(text + "data: {train: *a29}\n").size(), 30u);
}

TEST(JobFileGarbage, AliasThatHoldsItselfEnds) {
  EXPECT_FALSE(MistakesIn("data: &d {train: [*d], eval: *d, chat: *d}\n").empty());
  EXPECT_FALSE(MistakesIn("model: &m\n  lora: *m\n  rope_scaling: *m\n").empty());
}

TEST(JobFileGarbage, KeysThatAreNotWordsAreMistakes) {
  EXPECT_FALSE(MistakesIn("? [a, b]\n: c\n? {d: e}\n: f\n").empty());
  EXPECT_FALSE(MistakesIn("labels: {[a]: b, c: [d]}\n").empty());
}

TEST(JobFileGarbage, RandomBytesAndRandomCutsNeverCrash) {
  const std::string good =
      "name: a\nlabels: {a: b}\nmodel: {path: /m, dtype: auto, lora: {targets: [q]}}\n"
      "data: {train: [/x, {path: /y, weight: 2}], sequence_length: 64}\ntraining: {steps: 3, schedule: {type: wsd}}\n";
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = good.substr(0, round % 3 == 0 ? random() % good.size() : good.size());
    for (int flips = 1 + random() % 8; flips > 0 && !text.empty(); --flips) {
      text[random() % text.size()] =
          round % 2 ? static_cast<char>(random() % 256) : "{}[]:,&*!|>'\"\n\t -#?%@`"[random() % 23];
    }
    FieldMistakes mistakes;
    const v1::JobSpec spec = ParseJobFile(text, {}, mistakes);
    refused += !mistakes.empty();
    if (mistakes.empty()) {
      EXPECT_TRUE(ValidateJobSpec(spec).empty()) << text;
      FieldMistakes again;
      EXPECT_EQ(ToRunJson(ParseJobFile(ToRunJson(spec).dump(), {}, again)), ToRunJson(spec)) << text;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace ithaca
