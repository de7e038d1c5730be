#include "worker/plan/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "worker/plan/plan_table.h"

namespace ithaca::plan {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

ModelConfig SmolLm2() {
  ModelConfig model;
  model.hidden_size = 576;
  model.intermediate_size = 1536;
  model.layers = 30;
  model.query_heads = 9;
  model.kv_heads = 3;
  model.head_dim = 64;
  model.vocab_size = 49152;
  model.max_positions = 8192;
  model.tied_embeddings = true;
  return model;
}

RunConfig Job(int64_t sequence_length, std::optional<int> ranks) {
  RunConfig config;
  config.sequence_length = sequence_length;
  config.sequence_ranks = ranks;
  config.steps = 1;
  return config;
}

DeviceLimits Limits(int slots, int64_t bytes) {
  DeviceLimits limits;
  limits.slots = slots;
  limits.bytes_per_slot = bytes;
  return limits;
}

MemoryPlan PlanOf(const RunConfig& config, const DeviceLimits& limits) {
  Problems problems;
  MemoryPlan plan = MakePlan(config, SmolLm2(), limits, problems);
  EXPECT_TRUE(problems.empty()) << problems[0].message;
  return plan;
}

int64_t Term(const MemoryPlan& plan, const std::string& name) {
  for (const MemoryTerm& term : plan.terms) {
    if (term.name == name) return term.bytes;
  }
  ADD_FAILURE() << "no term " << name;
  return 0;
}

TEST(MemoryPlanTest, ChargesSixteenBytesAParameterInFp32) {
  const MemoryPlan plan = PlanOf(Job(2048, 1), Limits(1, 0));
  EXPECT_EQ(Term(plan, "parameters") + Term(plan, "gradients") + Term(plan, "optimizer"), int64_t{134515008} * 16);
  int64_t sum = 0;
  for (const MemoryTerm& term : plan.terms) sum += term.bytes;
  EXPECT_EQ(plan.total_bytes, sum);
}

TEST(MemoryPlanTest, KeepsActivationsWhereTheyFitAndRecomputesWhereNot) {
  EXPECT_EQ(PlanOf(Job(4096, 1), Limits(1, 10 * kGiB)).layer_inputs, LayerInputs::kKeep);
  const MemoryPlan tight = PlanOf(Job(4096, 1), Limits(1, 7 * kGiB / 2));
  EXPECT_EQ(tight.layer_inputs, LayerInputs::kRecompute);
  EXPECT_TRUE(tight.fits);
}

TEST(MemoryPlanTest, RunsAttentionTwiceOnlyWhereItsOutputsDoNotFit) {
  const MemoryPlan roomy = PlanOf(Job(8192, 1), Limits(1, 4 * kGiB));
  EXPECT_EQ(roomy.attention_outputs, AttentionOutputs::kKeep);
  EXPECT_EQ(roomy.segment_layers, 1);
  const MemoryPlan tight = PlanOf(Job(8192, 1), Limits(1, 7 * kGiB / 2));
  EXPECT_TRUE(tight.fits);
  EXPECT_EQ(tight.layer_inputs, LayerInputs::kRecompute);
  EXPECT_EQ(tight.attention_outputs, AttentionOutputs::kRecompute);
  EXPECT_EQ(tight.segment_layers, 3);  // of 30 layers: (10 + 3) inputs and 3 outputs stay
  EXPECT_EQ(Term(tight, "layer_inputs"), int64_t{13} * 8192 * 576 * 4);
  EXPECT_EQ(Term(tight, "attention_outputs"), int64_t{3} * 8192 * 9 * (64 * 4 + 4));
}

TEST(MemoryPlanTest, SuggestsRunningAttentionTwiceWhereTheJobKeepsItsOutputs) {
  RunConfig config = Job(8192, 1);
  config.attention_outputs = AttentionOutputs::kKeep;
  const MemoryPlan plan = PlanOf(config, Limits(1, 7 * kGiB / 2));
  EXPECT_FALSE(plan.fits);
  EXPECT_THAT(plan.suggestion, HasSubstr("memory.attention_outputs: recompute"));
}

TEST(MemoryPlanTest, ShardsTheOptimizerWhereItsStateDoesNotFitInEveryRank) {
  EXPECT_EQ(PlanOf(Job(2048, 4), Limits(4, 8 * kGiB)).sharding, Sharding::kNone);
  RunConfig config = Job(2048, 4);
  config.layer_inputs = LayerInputs::kRecompute;
  const MemoryPlan tight = PlanOf(config, Limits(4, 2 * kGiB));
  EXPECT_TRUE(tight.fits);
  EXPECT_EQ(tight.sharding, Sharding::kOptimizer);
  EXPECT_EQ(Term(tight, "optimizer"), int64_t{134515008} / 4 * 8);
  config.sharding = Sharding::kNone;
  EXPECT_THAT(PlanOf(config, Limits(4, 2 * kGiB)).suggestion, HasSubstr("memory.sharding: optimizer"));
}

TEST(MemoryPlanTest, TakesTheFrugalWayWhereMemoryIsUnknown) {
  const MemoryPlan plan = PlanOf(Job(4096, 1), Limits(1, 0));
  EXPECT_EQ(plan.layer_inputs, LayerInputs::kRecompute);
  EXPECT_TRUE(plan.fits);
}

TEST(MemoryPlanTest, ChargesTheScratchOfEveryThread) {
  RunConfig config = Job(4096, 1);
  config.threads_per_rank = 1;
  const int64_t one = Term(PlanOf(config, Limits(1, 0)), "attention");
  config.threads_per_rank = 8;
  EXPECT_GT(Term(PlanOf(config, Limits(1, 0)), "attention"), one);
}

TEST(MemoryPlanTest, ChargesTheRankWithMostHeads) {
  // Nine heads on four ranks: the first has three of them, as with three ranks, but holds a shard of a quarter.
  const MemoryPlan four = PlanOf(Job(4092, 4), Limits(4, 0));
  const MemoryPlan three = PlanOf(Job(4092, 3), Limits(4, 0));
  EXPECT_EQ(Term(four, "attention_outputs"), Term(three, "attention_outputs"));
  EXPECT_LT(Term(four, "layer_inputs"), Term(three, "layer_inputs"));
}

TEST(MemoryPlanTest, Bfloat16PaysForMasterWeightsAndForFp32CopiesOfLogits) {
  RunConfig config = Job(2048, 1);
  const MemoryPlan fp32 = PlanOf(config, Limits(1, 0));
  config.dtype = DType::kBFloat16;
  const MemoryPlan bf16 = PlanOf(config, Limits(1, 0));
  EXPECT_EQ(Term(bf16, "parameters") * 2, Term(fp32, "parameters"));
  EXPECT_EQ(Term(bf16, "optimizer") * 2, Term(fp32, "optimizer") * 3);
  EXPECT_GT(Term(bf16, "head_chunk"), Term(fp32, "head_chunk"));
}

TEST(MemoryPlanTest, DoesNotOverruleWhatTheJobFixes) {
  RunConfig config = Job(4096, 1);
  config.layer_inputs = LayerInputs::kKeep;
  config.loss_chunk = 100;
  config.mlp_tile = 512;
  const MemoryPlan plan = PlanOf(config, Limits(1, 3 * kGiB));
  EXPECT_EQ(plan.layer_inputs, LayerInputs::kKeep);
  EXPECT_EQ(plan.loss_chunk, 100);
  EXPECT_EQ(plan.mlp_tile, 512);
  EXPECT_FALSE(plan.fits);
  EXPECT_THAT(plan.suggestion, HasSubstr("memory.layer_inputs: recompute"));
}

TEST(MemoryPlanTest, TheSuggestedLengthFitsAndAThousandMoreTokensDoNot) {
  const DeviceLimits limits = Limits(1, 5 * kGiB / 2);
  const MemoryPlan plan = PlanOf(Job(8192, 1), limits);
  ASSERT_FALSE(plan.fits);
  const std::string key = "data.sequence_length: ";
  const size_t at = plan.suggestion.find(key);
  ASSERT_NE(at, std::string::npos) << plan.suggestion;
  const int64_t length = std::stoll(plan.suggestion.substr(at + key.size()));
  EXPECT_TRUE(PlanOf(Job(length, 1), limits).fits);
  EXPECT_FALSE(PlanOf(Job(length + 1024, 1), limits).fits);
}

TEST(MemoryPlanTest, SuggestsMoreRanksWhereThereAreSlots) {
  RunConfig config = Job(8192, 1);
  const DeviceLimits limits = Limits(4, 14 * kGiB / 5);
  const MemoryPlan plan = PlanOf(config, limits);
  ASSERT_FALSE(plan.fits);
  const std::string key = "parallelism.sequence: ";
  const size_t at = plan.suggestion.find(key);
  ASSERT_NE(at, std::string::npos) << plan.suggestion;
  config.sequence_ranks = std::stoi(plan.suggestion.substr(at + key.size()));
  EXPECT_TRUE(PlanOf(config, limits).fits);
}

TEST(MemoryPlanTest, MemoryOfActivationsFallsWithRanksAndGrowsWithLength) {
  const MemoryPlan one = PlanOf(Job(4096, 1), Limits(4, 0));
  const MemoryPlan three = PlanOf(Job(4096, 3), Limits(4, 0));
  const MemoryPlan twice = PlanOf(Job(8192, 1), Limits(4, 0));
  EXPECT_LT(Term(three, "layer_inputs"), Term(one, "layer_inputs") / 2);
  EXPECT_GT(Term(twice, "layer_inputs"), Term(one, "layer_inputs") * 19 / 10);
}

TEST(MemoryPlanTest, ChoosesRanksThatSplitTheHeadsWell) {
  EXPECT_EQ(PlanOf(Job(8192, std::nullopt), Limits(3, 0)).sequence_ranks, 3);
  EXPECT_EQ(PlanOf(Job(8192, std::nullopt), Limits(1, 0)).sequence_ranks, 1);
  EXPECT_LE(PlanOf(Job(8192, std::nullopt), Limits(64, 0)).sequence_ranks, 9);
}

TEST(MemoryPlanTest, PadsToAMultipleOfTheRanks) {
  EXPECT_EQ(PlanOf(Job(1000, 3), Limits(3, 0)).padded_sequence_length, 1002);
}

TEST(MemoryPlanTest, TellsEveryReasonWhyAJobCannotRun) {
  Problems problems;
  MakePlan(Job(100000, 10), SmolLm2(), Limits(2, 0), problems);
  ASSERT_EQ(problems.size(), 3u);  // more ranks than heads, more slots than there are, beyond the positions
  EXPECT_EQ(problems[2].path, "data.sequence_length");
  EXPECT_THAT(problems[2].message, HasSubstr("8192"));
}

TEST(MemoryPlanTest, FlopsCountCausalAttentionOnce) {
  const ModelConfig model = SmolLm2();
  EXPECT_DOUBLE_EQ(FlopsPerToken(model, 0), 6.0 * 134479872);
  EXPECT_DOUBLE_EQ(FlopsPerToken(model, 2048) - FlopsPerToken(model, 0), 12.0 * 30 * 576 * 2048);
}

TEST(PlanTableTest, FitsTheTerminalAndNamesEveryTerm) {
  const RunConfig config = Job(8192, std::nullopt);
  for (const int64_t bytes : {int64_t{0}, 2 * kGiB, 80 * kGiB}) {
    const DeviceLimits limits = Limits(4, bytes);
    const MemoryPlan plan = PlanOf(config, limits);
    const std::string table = FormatPlanTable(plan, config, SmolLm2(), limits);
    for (const MemoryTerm& term : plan.terms) EXPECT_THAT(table, HasSubstr(term.name));
    EXPECT_EQ(table.find("DOES NOT FIT") != std::string::npos, !plan.fits);
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(PlanTableTest, FormatsBytesForPeople) {
  EXPECT_EQ(FormatBytes(3 * kGiB / 2), "1.50 GiB");
  EXPECT_EQ(FormatBytes(283 << 20), "283 MiB");
  EXPECT_EQ(FormatBytes(12 << 10), "12 KiB");
}

}  // namespace
}  // namespace ithaca::plan
