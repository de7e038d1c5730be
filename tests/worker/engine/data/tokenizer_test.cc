#include "worker/engine/data/tokenizer.h"

#include "tests/worker/engine/data/data_fixture.h"
#include "worker/engine/data/bpe.h"
#include "worker/engine/data/pattern.h"

// That ids equal Hugging Face's is shown by compare_with_hugging_face.py on real text; here: rules one at a time, and
// what is refused.

namespace ithaca::engine {
namespace {

using nlohmann::json;
using plan::ExitCode;
using testing::ElementsAre;

class TokenizerTest : public DataFixture {
 protected:
  std::vector<int32_t> Encode(const std::string& text, bool special = false) {
    Tokenizer tokenizer = Tokenizer::Load(Write("t.json", file_.dump()));
    std::vector<int32_t> ids;
    tokenizer.Encode(text, special, ids);
    return ids;
  }

  void ExpectRefused(const std::string& part) {
    const std::string path = Write("t.json", file_.dump());
    ExpectError(ExitCode::kInvalidModel, {path, part}, [&] { Tokenizer::Load(path); });
  }

  json file_ = ByteTokenizer();
};

TEST_F(TokenizerTest, MergesByRankWithinWords) {
  EXPECT_THAT(Encode("abcab c"), ElementsAre(257, 256, ' ', 'c'));
  EXPECT_THAT(Encode(""), ElementsAre());
  EXPECT_THAT(Encode("é"), ElementsAre(0xC3, 0xA9));
}

TEST_F(TokenizerTest, RememberedWordsGiveTheSameIds) {
  EXPECT_THAT(Encode("abc abc abc"), ElementsAre(257, ' ', 257, ' ', 257));
}

TEST_F(TokenizerTest, MergesMayBePairs) {
  file_["model"]["merges"] = json::array({json::array({"a", "b"})});
  EXPECT_THAT(Encode("abc"), ElementsAre(256, 'c'));
}

TEST_F(TokenizerTest, IgnoreMergesTakesWholeWordsFromTheVocabulary) {
  file_["model"]["merges"] = json::array();
  EXPECT_THAT(Encode("abc"), ElementsAre('a', 'b', 'c'));
  file_["model"]["ignore_merges"] = true;
  EXPECT_THAT(Encode("abc"), ElementsAre(257));
}

TEST_F(TokenizerTest, ComposesBeforeSplitting) {
  file_["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  EXPECT_THAT(Encode("e\u0301"), ElementsAre(0xC3, 0xA9));
}

TEST_F(TokenizerTest, AddedTokensAreCutOutWithTheirFlags) {
  EXPECT_THAT(Encode("ab<eos>c"), ElementsAre(256, 258, 'c'));
  file_["added_tokens"][0]["lstrip"] = true;
  EXPECT_THAT(Encode("ab  <eos> c"), ElementsAre(256, 258, ' ', 'c'));
  file_["added_tokens"][0]["rstrip"] = true;
  EXPECT_THAT(Encode("ab  <eos> c"), ElementsAre(256, 258, 'c'));
  file_["added_tokens"][0] = {{"id", 258}, {"content", "word"}, {"single_word", true}, {"normalized", false}};
  EXPECT_THAT(Encode("word words"), ElementsAre(258, ' ', 'w', 'o', 'r', 'd', 's'));
}

TEST_F(TokenizerTest, TemplateSurroundsTextOnlyWhenAsked) {
  const json piece = {{"SpecialToken", {{"id", "<eos>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  file_["post_processor"] = {{"type", "TemplateProcessing"},
                             {"single", {piece, text}},
                             {"special_tokens", {{"<eos>", {{"id", "<eos>"}, {"ids", {258}}, {"tokens", {"<eos>"}}}}}}};
  EXPECT_THAT(Encode("a", true), ElementsAre(258, 'a'));
  EXPECT_THAT(Encode("a", false), ElementsAre('a'));
}

TEST_F(TokenizerTest, LongRunsNeitherOverflowNorTakeForever) {
  EXPECT_EQ(Encode(std::string(3'000'000, ' ') + "x").size(), 3'000'001u);
  EXPECT_EQ(Encode(std::string(3'000'000, 'z')).size(), 3'000'000u);
}

TEST_F(TokenizerTest, InvalidUtf8IsRefused) {
  ExpectError(ExitCode::kInvalidData, {"UTF-8"}, [&] { Encode("a\xff"); });
}

TEST_F(TokenizerTest, UnsupportedPartsAreNamed) {
  file_["normalizer"] = {{"type", "Lowercase"}};
  ExpectRefused("normalizer Lowercase");
  file_ = ByteTokenizer();
  file_["pre_tokenizer"] = {{"type", "Metaspace"}};
  ExpectRefused("pre_tokenizer Metaspace");
  file_["pre_tokenizer"] = nullptr;
  ExpectRefused("ByteLevel");
  file_ = ByteTokenizer();
  file_["post_processor"] = {{"type", "RobertaProcessing"}};
  ExpectRefused("post_processor RobertaProcessing");
  file_ = ByteTokenizer();
  file_["model"]["type"] = "WordPiece";
  ExpectRefused("WordPiece");
  for (const char* option : {"byte_fallback", "dropout", "continuing_subword_prefix"}) {
    file_ = ByteTokenizer();
    file_["model"][option] = option == std::string("dropout") ? json(0.1) : json(true);
    ExpectRefused(option);
  }
}

TEST_F(TokenizerTest, DamagedFilesAreRefused) {
  file_["model"]["merges"] = {"a q"};
  ExpectRefused("merge token aq");
  file_["model"]["merges"] = {"abc"};
  ExpectRefused("invalid merge");
  file_ = ByteTokenizer();
  file_["model"].erase("vocab");
  ExpectRefused("vocab");
  for (const json& id : {json(-1), json(int64_t{1} << 31), json(1.5), json("7")}) {
    file_ = ByteTokenizer();
    file_["model"]["vocab"]["ab"] = id;
    ExpectRefused(id.dump() + " is no token id");
  }
  file_ = ByteTokenizer();
  file_["model"]["vocab"]["<eos>"] = 7;
  ExpectRefused("<eos>");
  ExpectError(ExitCode::kInvalidModel, {Path("none")}, [&] { Tokenizer::Load(Path("none")); });
  ExpectError(ExitCode::kInvalidModel, {Path("bad")}, [&] { Tokenizer::Load(Write("bad", "{\"model\"")); });
}

// Damage at any place ends in an EngineError or a tokenizer that still works, never in a crash.
TEST_F(TokenizerTest, NoDamagedByteCrashes) {
  file_["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"<eos>", 3}};
  file_["model"]["merges"] = json::array({"a b"});
  file_["added_tokens"][0]["id"] = 3;
  file_["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "a(?!b)|[^\\sx]"}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const std::string whole = file_.dump();
  int worked = 0;
  int refused = 0;
  const std::string values = "\"0[\\a";
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = values[at % values.size()];
    try {
      Tokenizer tokenizer = Tokenizer::Load(Write("t.json", damaged));
      std::vector<int32_t> ids;
      tokenizer.Encode("ab<eos> abba xx", true, ids);
      ++worked;
    } catch (const EngineError& error) {
      EXPECT_EQ(error.code(), ExitCode::kInvalidModel) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(worked, 0);
  EXPECT_GT(refused, worked);
}

TEST(BytesOfToken, UndoesTheTableOfByteLevel) {
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(BytesOfToken(CharacterOfByte(byte)), std::string(1, static_cast<char>(byte))) << byte;
  }
  EXPECT_EQ(BytesOfToken("Ġthe"), " the");
  EXPECT_EQ(BytesOfToken("▁the"), std::nullopt);
}

TEST(TranslateOniguruma, WritesWhatMeansTheSame) {
  EXPECT_EQ(TranslateOniguruma(R"(\s+(?!\S)|[^\s\p{L}]|\p{N}{1,3})"),
            R"(\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}\p{L}]|\p{N}{1,3})");
  EXPECT_EQ(TranslateOniguruma(R"([\p{Han}\r\n]++\.)"), R"([\p{sc:Han}\r\n]++\.)");
}

TEST(TranslateOniguruma, RefusesWhatWouldMeanAnother) {
  for (const char* pattern : {"^a", "a$", "[a[b]]", "[a&&b]", "a{2}+", R"(\bx)", R"(\h)", R"([\W])", "(?<name>a)",
                              "(*F)", R"((a)\1)", R"(\p{^L})", "\\"}) {
    ExpectError(ExitCode::kInvalidModel, {pattern, "not supported"}, [&] { TranslateOniguruma(pattern); });
  }
}

}  // namespace
}  // namespace ithaca::engine
