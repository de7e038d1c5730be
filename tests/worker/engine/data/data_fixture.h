#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/engine/data/data_source.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

// The printable character that stands for a byte in a byte-level vocabulary.
inline std::string CharacterOfByte(int byte) {
  const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  int code_point = byte;
  if (!is_printable) {
    code_point = 0x100;
    for (int other = 0; other < byte; ++other) {
      code_point += (other >= '!' && other <= '~') || (other >= 0xA1 && other <= 0xAC) || other >= 0xAE ? 0 : 1;
    }
  }
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// A tokenizer whose id for a byte is its value; 256 is "ab", 257 "abc", 258 the added token <eos>.
inline nlohmann::json ByteTokenizer() {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary[CharacterOfByte(byte)] = byte;
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  return {{"added_tokens",
           {{{"id", 258},
             {"content", "<eos>"},
             {"special", true},
             {"normalized", false},
             {"lstrip", false},
             {"rstrip", false},
             {"single_word", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"a b", "ab c"}}}}};
}

// A test with files of its own and options that read them.
class DataFixture : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "ithaca-data-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    options_.tokenizer_path = Write("tokenizer.json", ByteTokenizer().dump());
    options_.vocab_size = 300;
    options_.sequence_length = 8;
    options_.shuffle = false;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return (directory_ / name).string(); }

  std::string Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }

  // Makes the bytes the only data file.
  void SetFile(const std::string& name, const std::string& bytes) { options_.files = {{Write(name, bytes), 1.0}}; }

  // Documents of these lengths; tokens are numbered 1, 2, ... through all of them.
  void SetDocuments(const std::vector<int64_t>& lengths) {
    std::string lines;
    int64_t next = 1;
    for (const int64_t length : lengths) {
      nlohmann::json ids;
      for (int64_t i = 0; i < length; ++i) ids.push_back(next++);
      lines += nlohmann::json({{"input_ids", ids}}).dump() + "\n";
    }
    options_.vocab_size = next;
    SetFile("documents.jsonl", lines);
  }

  std::filesystem::path directory_;
  DataOptions options_;
};

// Expects `call` to throw an EngineError with `code` whose message has all of `parts`.
template <typename Call>
void ExpectError(plan::ExitCode code, const std::vector<std::string>& parts, Call&& call) {
  try {
    call();
    FAIL() << "nothing was thrown";
  } catch (const EngineError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& part : parts) EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

}  // namespace ithaca::engine
