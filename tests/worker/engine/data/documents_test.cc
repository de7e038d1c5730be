#include "worker/engine/data/documents.h"

#include "tests/worker/engine/data/data_fixture.h"

namespace ithaca::engine {
namespace {

using plan::ExitCode;
using testing::ElementsAre;

class Documents : public DataFixture {
 protected:
  void ExpectBad(ExitCode code, const std::vector<std::string>& parts) {
    ExpectError(code, parts, [&] { ReadCorpus(options_); });
  }
  void ExpectBadLine(const std::string& line, const std::string& part) {
    SetFile("bad.jsonl", "{\"input_ids\": [1, 2]}\n\n" + line + "\n");
    ExpectBad(ExitCode::kInvalidData, {Path("bad.jsonl") + ":3: ", part});
  }
};

TEST_F(Documents, TextFileIsOneDocumentThatEndsWithTheEndOfTextToken) {
  options_.eos_token_id = 258;
  SetFile("a.txt", "ab\nc");
  const Corpus corpus = ReadCorpus(options_);
  EXPECT_THAT(corpus.ids, ElementsAre(256, '\n', 'c', 258));
  EXPECT_THAT(corpus.starts, ElementsAre(0, 4));
  EXPECT_TRUE(corpus.labels.empty());
}

TEST_F(Documents, EndOfTextIsNotDoubled) {
  options_.eos_token_id = 258;
  SetFile("a.txt", "ab<eos>");
  EXPECT_THAT(ReadCorpus(options_).ids, ElementsAre(256, 258));
}

TEST_F(Documents, LinesAreDocumentsAndBlankOnesAreNot) {
  SetFile("a.jsonl", "{\"text\": \"ab\"}\r\n\n{\"text\": \"\"}\n{\"text\": \"c\\u00e9\", \"id\": 7}");
  const Corpus corpus = ReadCorpus(options_);
  EXPECT_THAT(corpus.ids, ElementsAre(256, 'c', 0xC3, 0xA9));
  EXPECT_THAT(corpus.starts, ElementsAre(0, 1, 4));
}

TEST_F(Documents, LabelsBelongToTheirTokensAndOthersAreTheirOwn) {
  SetFile("a.jsonl",
          "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4, 5], \"labels\": [-100, 4, 9]}\n{\"text\": "
          "\"ab\"}\n{\"input_ids\": [6]}\n");
  const Corpus corpus = ReadCorpus(options_);
  EXPECT_THAT(corpus.ids, ElementsAre(1, 2, 3, 4, 5, 256, 6));
  EXPECT_THAT(corpus.labels, ElementsAre(1, 2, -100, 4, 9, 256, 6));
  EXPECT_THAT(corpus.starts, ElementsAre(0, 2, 5, 6, 7));
}

TEST_F(Documents, FilesComeInTheirOrderAndGlobsSorted) {
  Write("b1.txt", "22");
  Write("b0.txt", "11");
  options_.files = {{Write("z.txt", "00"), 1.0}, {Path("b*.txt"), 1.0}};
  EXPECT_THAT(ReadCorpus(options_).ids, ElementsAre('0', '0', '1', '1', '2', '2'));
}

TEST_F(Documents, IdsNeedNoTokenizer) {
  options_.tokenizer_path = Path("none");
  SetFile("a.jsonl", "{\"input_ids\": [1, 2]}\n");
  EXPECT_THAT(ReadCorpus(options_).ids, ElementsAre(1, 2));
  SetFile("a.jsonl", "{\"text\": \"ab\"}\n");
  ExpectBad(ExitCode::kInvalidModel, {Path("none")});
}

TEST_F(Documents, BadLinesAreNamedWithTheirNumber) {
  ExpectBadLine("{\"text\": ", "not a JSON object");
  ExpectBadLine("[1, 2]", "not a JSON object");
  ExpectBadLine("{\"text\": 3}", "`text` is not a string");
  ExpectBadLine("{\"text\": \"a\xff\"}", "UTF-8");
  ExpectBadLine("{\"text\": \"\\ud800\"}", "not a JSON object");
  ExpectBadLine("{\"body\": \"a\"}", "neither `text` nor `input_ids`");
  ExpectBadLine("{\"text\": \"a\", \"input_ids\": [1]}", "both");
  ExpectBadLine("{\"messages\": []}", "`messages` is not supported");
  ExpectBadLine("{\"text\": \"a\", \"labels\": [1]}", "`labels`");
  ExpectBadLine("{\"input_ids\": []}", "`input_ids`");
  ExpectBadLine("{\"input_ids\": [1, 300]}", "300");
  ExpectBadLine("{\"input_ids\": [1, -1]}", "-1");
  ExpectBadLine("{\"input_ids\": [1, 1.5]}", "1.5");
  ExpectBadLine("{\"input_ids\": [1, 18446744073709551615]}", "18446744073709551615");
  ExpectBadLine("{\"input_ids\": [1, 2], \"labels\": [1]}", "`labels`");
  ExpectBadLine("{\"input_ids\": [1, 2], \"labels\": [1, 300]}", "`labels` has 300");
}

TEST_F(Documents, BadFilesAreNamed) {
  SetFile("a.txt", "ok \xc3");
  ExpectBad(ExitCode::kInvalidData, {Path("a.txt"), "UTF-8"});
  SetFile("a.csv", "1");
  ExpectBad(ExitCode::kInvalidData, {Path("a.csv"), "neither .txt nor .jsonl"});
  options_.files = {{Path("nothing-*.txt"), 1.0}};
  ExpectBad(ExitCode::kInvalidData, {"no data file matches", Path("nothing-*.txt")});
  options_.files = {{directory_.string(), 1.0}};
  ExpectBad(ExitCode::kInvalidData, {directory_.string(), "not a file"});
}

TEST_F(Documents, CorpusWithoutTargetsIsEmpty) {
  for (const std::string lines : {"", "\n", "{\"text\": \"\"}\n", "{\"input_ids\": [5]}\n{\"input_ids\": [6]}\n",
                                  "{\"input_ids\": [5, 6], \"labels\": [5, -100]}\n"}) {
    SetFile("a.jsonl", lines);
    ExpectBad(ExitCode::kInvalidData, {"data is empty", Path("a.jsonl")});
  }
  options_.files.clear();
  ExpectBad(ExitCode::kInvalidData, {"no data files"});
}

TEST_F(Documents, WeightsAreRefused) {
  SetFile("a.jsonl", "{\"input_ids\": [1, 2]}\n");
  options_.files[0].weight = 0.5;
  ExpectBad(ExitCode::kInvalidConfig, {Path("a.jsonl"), "weight"});
}

TEST_F(Documents, TokenizerLargerThanTheModelIsRefused) {
  options_.vocab_size = 257;
  SetFile("a.txt", "xx abc");
  ExpectBad(ExitCode::kInvalidModel, {Path("a.txt"), "257"});
}

}  // namespace
}  // namespace ithaca::engine
