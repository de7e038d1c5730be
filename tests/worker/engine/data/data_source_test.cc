#include "worker/engine/data/data_source.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "tests/worker/engine/data/data_fixture.h"

namespace ithaca::engine {
namespace {

using testing::ElementsAre;

class DataSourceTest : public DataFixture {
 protected:
  static std::vector<std::vector<int64_t>> Epoch(const DataSource& source, int64_t epoch) {
    std::vector<std::vector<int64_t>> sequences;
    const int64_t count = source.sequences_per_epoch();
    for (int64_t i = 0; i < count; ++i) sequences.push_back(source.Get(epoch * count + i).ids_T);
    return sequences;
  }

  // What holds of every sequence, whatever the options.
  static void ExpectConsistent(const Sequence& s) {
    const auto T = static_cast<int64_t>(s.ids_T.size());
    ASSERT_EQ(s.labels_T.size(), s.ids_T.size());
    ASSERT_EQ(s.positions_T.size(), s.ids_T.size());
    ASSERT_EQ(s.document_starts.front(), 0);
    ASSERT_EQ(s.document_starts.back(), T);
    int64_t targets = 0;
    for (size_t d = 0; d + 1 < s.document_starts.size(); ++d) {
      ASSERT_LT(s.document_starts[d], s.document_starts[d + 1]);
      for (int64_t t = s.document_starts[d]; t < s.document_starts[d + 1]; ++t) {
        EXPECT_EQ(s.positions_T[static_cast<size_t>(t)], t - s.document_starts[d]);
      }
      EXPECT_EQ(s.labels_T[static_cast<size_t>(s.document_starts[d + 1] - 1)], kIgnoredLabel);
    }
    for (const int64_t label : s.labels_T) targets += label != kIgnoredLabel ? 1 : 0;
    EXPECT_EQ(s.target_tokens, targets);
  }
};

TEST_F(DataSourceTest, PacksDocumentsWithExactBoundaries) {
  SetDocuments({3, 2, 7});
  const DataSource source = DataSource::Open(options_);
  EXPECT_EQ(source.sequences_per_epoch(), 2);
  EXPECT_EQ(source.tokens_per_epoch(), 12);
  const Sequence first = source.Get(0);
  EXPECT_THAT(first.ids_T, ElementsAre(1, 2, 3, 4, 5, 0, 0, 0));
  EXPECT_THAT(first.labels_T, ElementsAre(2, 3, -100, 5, -100, -100, -100, -100));
  EXPECT_THAT(first.positions_T, ElementsAre(0, 1, 2, 0, 1, 0, 1, 2));
  EXPECT_THAT(first.document_starts, ElementsAre(0, 3, 5, 8));
  EXPECT_EQ(first.target_tokens, 3);
  const Sequence second = source.Get(1);
  EXPECT_THAT(second.ids_T, ElementsAre(6, 7, 8, 9, 10, 11, 12, 0));
  EXPECT_THAT(second.labels_T, ElementsAre(7, 8, 9, 10, 11, 12, -100, -100));
  EXPECT_THAT(second.positions_T, ElementsAre(0, 1, 2, 3, 4, 5, 6, 0));
  EXPECT_THAT(second.document_starts, ElementsAre(0, 7, 8));
}

TEST_F(DataSourceTest, ALongDocumentIsCutAndItsRestSharesASequence) {
  SetDocuments({11, 4});
  const DataSource source = DataSource::Open(options_);
  EXPECT_THAT(Epoch(source, 0),
              ElementsAre(ElementsAre(1, 2, 3, 4, 5, 6, 7, 8), ElementsAre(9, 10, 11, 12, 13, 14, 15, 0)));
  EXPECT_THAT(source.Get(1).document_starts, ElementsAre(0, 3, 7, 8));
}

// Lengths as of real corpora: many short documents, few long ones.
TEST_F(DataSourceTest, PackingWastesLittleAndCutsNothingThatFits) {
  std::mt19937_64 random(5);
  std::vector<int64_t> lengths;
  int64_t tokens = 0, longer = 0;
  for (int i = 0; i < 4000; ++i) {
    const double uniform = static_cast<double>(random() >> 11) / 9007199254740992.0;
    lengths.push_back(1 + static_cast<int64_t>(200 * -std::log(1 - uniform) * (1 + static_cast<double>(i % 7))));
    tokens += lengths.back();
    longer += lengths.back() > 2048 ? lengths.back() / 2048 : 0;
  }
  SetDocuments(lengths);
  options_.sequence_length = 2048;
  options_.shuffle = true;
  const DataSource source = DataSource::Open(options_);
  EXPECT_LT(static_cast<double>(source.sequences_per_epoch() * 2048), 1.02 * static_cast<double>(tokens));
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    int64_t documents = 0;
    for (int64_t i = 0; i < source.sequences_per_epoch(); ++i) {
      const Sequence sequence = source.Get(epoch * source.sequences_per_epoch() + i);
      ExpectConsistent(sequence);
      documents += static_cast<int64_t>(sequence.document_starts.size()) - 1 - (sequence.ids_T.back() == 0 ? 1 : 0);
    }
    EXPECT_LE(documents, 4000 + longer);
  }
}

TEST_F(DataSourceTest, PadsToAMultiple) {
  SetDocuments({10});
  options_.sequence_length = 10;
  options_.multiple_of = 4;
  const Sequence sequence = DataSource::Open(options_).Get(0);
  EXPECT_THAT(sequence.ids_T, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0));
  EXPECT_THAT(sequence.document_starts, ElementsAre(0, 10, 12));
  EXPECT_EQ(sequence.target_tokens, 9);
}

TEST_F(DataSourceTest, NotPackedEachDocumentHasItsOwnSequences) {
  SetDocuments({3, 9, 1});
  options_.packing = false;
  options_.sequence_length = 4;
  const DataSource source = DataSource::Open(options_);
  EXPECT_THAT(Epoch(source, 0), ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5, 6, 7), ElementsAre(8, 9, 10, 11),
                                            ElementsAre(12), ElementsAre(13)));
  options_.multiple_of = 2;
  EXPECT_THAT(Epoch(DataSource::Open(options_), 0),
              ElementsAre(ElementsAre(1, 2, 3, 0), ElementsAre(4, 5, 6, 7), ElementsAre(8, 9, 10, 11),
                          ElementsAre(12, 0), ElementsAre(13, 0)));
  EXPECT_EQ(source.Get(3).target_tokens, 0);
}

TEST_F(DataSourceTest, GivenLabelsAreShiftedWithinTheirDocument) {
  SetFile("a.jsonl",
          "{\"input_ids\": [1, 2, 3], \"labels\": [-100, -100, 3]}\n{\"input_ids\": [4, 5], \"labels\": [7, 8]}\n");
  const Sequence sequence = DataSource::Open(options_).Get(0);
  EXPECT_THAT(sequence.labels_T, ElementsAre(-100, 3, -100, 8, -100, -100, -100, -100));
  EXPECT_EQ(sequence.target_tokens, 2);
}

TEST_F(DataSourceTest, EveryEpochHasEveryTokenOnceInAnotherOrder) {
  SetDocuments({5, 1, 13, 2, 8, 30, 4, 4, 21, 3});
  options_.shuffle = true;
  for (const bool packing : {true, false}) {
    options_.packing = packing;
    const DataSource source = DataSource::Open(options_);
    std::set<std::vector<std::vector<int64_t>>> orders;
    for (int64_t epoch = 0; epoch < 4; ++epoch) {
      std::vector<int64_t> tokens;
      for (int64_t i = 0; i < source.sequences_per_epoch(); ++i) {
        const Sequence sequence = source.Get(epoch * source.sequences_per_epoch() + i);
        ExpectConsistent(sequence);
        for (const int64_t id : sequence.ids_T) {
          if (id != 0) tokens.push_back(id);
        }
      }
      std::sort(tokens.begin(), tokens.end());
      std::vector<int64_t> all(91);
      std::iota(all.begin(), all.end(), 1);
      EXPECT_EQ(tokens, all);
      orders.insert(Epoch(source, epoch));
    }
    EXPECT_EQ(orders.size(), 4u);
  }
}

TEST_F(DataSourceTest, SequencesDependOnSeedAndIndexAlone) {
  SetDocuments({5, 1, 13, 2, 8, 30, 4, 4, 21, 3});
  options_.shuffle = true;
  const DataSource forward = DataSource::Open(options_);
  const DataSource backward = DataSource::Open(options_);
  const int64_t count = 3 * forward.sequences_per_epoch();
  std::map<int64_t, std::vector<int64_t>> ids;
  for (int64_t i = 0; i < count; ++i) ids[i] = forward.Get(i).ids_T;
  for (int64_t i = count - 1; i >= 0; --i) EXPECT_EQ(backward.Get(i).ids_T, ids[i]) << i;
  options_.seed = 1;
  EXPECT_NE(Epoch(DataSource::Open(options_), 0), Epoch(forward, 0));
}

TEST_F(DataSourceTest, WithoutShufflingEpochsAreEqual) {
  SetDocuments({5, 11, 6});
  const DataSource source = DataSource::Open(options_);
  EXPECT_EQ(Epoch(source, 0), Epoch(source, 3));
}

TEST_F(DataSourceTest, TextIsTokenizedOnTheWay) {
  options_.eos_token_id = 258;
  SetFile("a.jsonl", "{\"text\": \"abc d\"}\n{\"text\": \"e\"}\n");
  const Sequence sequence = DataSource::Open(options_).Get(0);
  EXPECT_THAT(sequence.ids_T, ElementsAre(257, ' ', 'd', 258, 'e', 258, 0, 0));
  EXPECT_THAT(sequence.document_starts, ElementsAre(0, 4, 6, 8));
  EXPECT_EQ(sequence.target_tokens, 4);
}

TEST_F(DataSourceTest, LengthsMakeSense) {
  SetDocuments({3});
  options_.sequence_length = 0;
  ExpectError(plan::ExitCode::kInvalidConfig, {"sequence_length"}, [&] { DataSource::Open(options_); });
}

}  // namespace
}  // namespace ithaca::engine
