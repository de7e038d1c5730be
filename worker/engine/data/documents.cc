#include "worker/engine/data/documents.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "worker/engine/data/tokenizer.h"
#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void Fail(const std::string& message) { throw EngineError(plan::ExitCode::kInvalidData, message); }

// The files a path or glob names, sorted.
std::vector<std::string> Expand(const std::string& path) {
  if (fs::exists(path)) return {path};
  glob_t found{};
  const int result = glob(path.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (result == 0 ? found.gl_pathc : 0));
  globfree(&found);
  if (result == GLOB_NOMATCH) Fail("no data file matches " + path);
  if (result != 0) Fail("data files of " + path + " cannot be listed");
  return paths;
}

// Reads files into a corpus, loading the tokenizer when the first text comes.
class CorpusReader {
 public:
  explicit CorpusReader(const DataOptions& options) : options_(options) { corpus_.starts.push_back(0); }

  void ReadFile(const std::string& path) {
    if (!fs::is_regular_file(path)) Fail(path + " is not a file");
    std::ifstream stream(path, std::ios::binary);
    if (!stream) Fail("cannot open " + path);
    const std::string extension = fs::path(path).extension();
    if (extension == ".txt") {
      ReadText(path, stream);
    } else if (extension == ".jsonl") {
      ReadLines(path, stream);
    } else {
      Fail(path + " is neither .txt nor .jsonl");
    }
    if (stream.bad()) Fail("cannot read " + path);
  }

  Corpus Take() { return std::move(corpus_); }

 private:
  void ReadText(const std::string& path, std::ifstream& stream) {
    where_ = path;
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    if (!IsValidUtf8(text)) Bad("text is not valid UTF-8");
    AddText(text);
  }

  void ReadLines(const std::string& path, std::ifstream& stream) {
    std::string line;
    for (int64_t number = 1; std::getline(stream, line); ++number) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      where_ = path + ":" + std::to_string(number);
      AddLine(line);
    }
  }

  void AddLine(const std::string& line) {
    if (!IsValidUtf8(line)) Bad("line is not valid UTF-8");
    const json document = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object()) Bad("line is not a JSON object");
    const bool has_text = document.contains("text");
    const bool has_ids = document.contains("input_ids");
    if (document.contains("messages")) Bad("`messages` is not supported yet: give `text` or `input_ids`");
    if (has_text && has_ids) Bad("line has both `text` and `input_ids`");
    if (!has_text && !has_ids) Bad("line has neither `text` nor `input_ids`");
    if (has_ids) return AddIds(document);
    if (document.contains("labels")) Bad("`labels` go with `input_ids`, not with `text`");
    if (!document["text"].is_string()) Bad("`text` is not a string");
    AddText(document["text"].get_ref<const std::string&>());
  }

  void AddText(std::string_view text) {
    if (text.empty()) return;
    if (!tokenizer_) tokenizer_ = Tokenizer::Load(options_.tokenizer_path);
    std::vector<int32_t>& ids = corpus_.ids;
    tokenizer_->Encode(text, /*add_special_tokens=*/true, ids);
    const auto begin = ids.begin() + corpus_.starts.back();
    if (begin == ids.end()) return;
    const int32_t highest = *std::max_element(begin, ids.end());
    if (highest >= options_.vocab_size) {
      throw EngineError(plan::ExitCode::kInvalidModel,
                        where_ + ": " + options_.tokenizer_path + " gives token id " + std::to_string(highest) +
                            ", but the model's vocabulary has " + std::to_string(options_.vocab_size));
    }
    const auto end_of_text = options_.eos_token_id;
    if (end_of_text && ids.back() != *end_of_text) ids.push_back(static_cast<int32_t>(*end_of_text));
    if (!corpus_.labels.empty()) AppendOwnLabels();
    EndDocument();
  }

  void AddIds(const json& document) {
    const json& ids = document["input_ids"];
    if (!ids.is_array() || ids.empty()) Bad("`input_ids` is not a list of token ids");
    for (const json& id : ids) corpus_.ids.push_back(TokenId(id, "input_ids"));
    if (document.contains("labels")) {
      const json& labels = document["labels"];
      if (!labels.is_array() || labels.size() != ids.size()) Bad("`labels` is not a list as long as `input_ids`");
      // Documents before the first with labels are their own labels.
      const auto before = corpus_.ids.begin() + corpus_.starts.back();
      if (corpus_.labels.empty()) corpus_.labels.assign(corpus_.ids.begin(), before);
      for (const json& label : labels) {
        corpus_.labels.push_back(label == kIgnoredLabel ? static_cast<int32_t>(kIgnoredLabel)
                                                        : TokenId(label, "labels"));
      }
    } else if (!corpus_.labels.empty()) {
      AppendOwnLabels();
    }
    EndDocument();
  }

  void AppendOwnLabels() {
    corpus_.labels.insert(corpus_.labels.end(), corpus_.ids.begin() + corpus_.starts.back(), corpus_.ids.end());
  }

  void EndDocument() { corpus_.starts.push_back(corpus_.tokens()); }

  int32_t TokenId(const json& id, const char* field) const {
    if (!id.is_number_integer() || id < 0 || id >= options_.vocab_size) {
      Bad(std::string("`") + field + "` has " + id.dump() + ", which is no token id below " +
          std::to_string(options_.vocab_size));
    }
    return id.get<int32_t>();
  }

  [[noreturn]] void Bad(const std::string& what) const { Fail(where_ + ": " + what); }

  const DataOptions& options_;
  std::optional<Tokenizer> tokenizer_;
  Corpus corpus_;
  std::string where_;  // of what is being read: file, or file:line
};

bool HasTarget(const Corpus& corpus) {
  for (int64_t d = 0; d < corpus.documents(); ++d) {
    for (int64_t i = corpus.starts[static_cast<size_t>(d)] + 1; i < corpus.starts[static_cast<size_t>(d) + 1]; ++i) {
      if (corpus.Label(i) != kIgnoredLabel) return true;
    }
  }
  return false;
}

}  // namespace

Corpus ReadCorpus(const DataOptions& options) {
  if (options.files.empty()) Fail("no data files are given");
  if (options.eos_token_id && (*options.eos_token_id < 0 || *options.eos_token_id >= options.vocab_size)) {
    throw EngineError(plan::ExitCode::kInvalidModel, "eos_token_id " + std::to_string(*options.eos_token_id) +
                                                         " lies outside the vocabulary of " +
                                                         std::to_string(options.vocab_size));
  }
  for (const plan::DataFile& file : options.files) {
    if (file.weight != 1.0) {
      throw EngineError(
          plan::ExitCode::kInvalidConfig,
          "data file " + file.path + " has a weight, which is not supported yet: leave it out, or give 1");
    }
  }
  CorpusReader reader(options);
  for (const plan::DataFile& file : options.files) {
    for (const std::string& path : Expand(file.path)) reader.ReadFile(path);
  }
  Corpus corpus = reader.Take();
  if (!HasTarget(corpus)) {
    Fail("the data is empty: no token of " + options.files[0].path +
         (options.files.size() > 1 ? " and the other files" : "") + " is a target");
  }
  return corpus;
}

}  // namespace ithaca::engine
