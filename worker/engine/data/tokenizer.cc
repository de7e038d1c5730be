#include "worker/engine/data/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/engine/data/added_tokens.h"
#include "worker/engine/data/bpe.h"
#include "worker/engine/data/pre_tokenizer.h"
#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using nlohmann::json;

[[noreturn]] void Fail(const std::string& what) { throw EngineError(plan::ExitCode::kInvalidModel, what); }

// Whether the `normalizer` composes (NFC). Nothing else is supported.
bool ParseNormalizer(const json& normalizer) {
  if (normalizer.is_null()) return false;
  const std::string type = normalizer.value("type", "");
  if (type == "NFC") return true;
  if (type != "Sequence") Fail("normalizer " + type + " is not supported");
  bool composes = false;
  for (const json& inner : normalizer.at("normalizers")) composes = ParseNormalizer(inner) || composes;
  return composes;
}

// The ids that a `post_processor` puts around a text.
struct Template {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

void AddTemplate(const json& processor, Template& result) {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  int texts = 0;
  for (const json& piece : processor.at("single")) {
    if (piece.contains("Sequence")) {
      ++texts;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").get<std::string>();
    for (const json& id : processor.at("special_tokens").at(name).at("ids")) {
      (texts == 0 ? before : after).push_back(ParseTokenId(id));
    }
  }
  if (texts != 1) Fail("post_processor TemplateProcessing without exactly one text is not supported");
  result.before.insert(result.before.begin(), before.begin(), before.end());
  result.after.insert(result.after.end(), after.begin(), after.end());
}

void ParsePostProcessor(const json& processor, Template& result) {
  if (processor.is_null()) return;
  const std::string type = processor.value("type", "");
  if (type == "ByteLevel") return;  // only trims offsets
  if (type == "TemplateProcessing") return AddTemplate(processor, result);
  if (type != "Sequence") Fail("post_processor " + type + " is not supported");
  for (const json& inner : processor.at("processors")) ParsePostProcessor(inner, result);
}

// An added token that the vocabulary also has must have the same id there; else two readers would disagree.
void CheckIds(const std::vector<AddedToken>& tokens, const json& vocabulary) {
  for (const AddedToken& token : tokens) {
    const auto found = vocabulary.find(token.content);
    if (found != vocabulary.end() && *found != token.id) {
      Fail("added token " + token.content + " has id " + std::to_string(token.id) + ", the vocabulary says " +
           found->dump());
    }
  }
}

std::vector<AddedToken> Select(const std::vector<AddedToken>& tokens, bool normalized, bool composes) {
  std::vector<AddedToken> selected;
  std::string buffer;
  for (AddedToken token : tokens) {
    if (token.normalized != normalized) continue;
    if (normalized && composes) token.content = std::string(NormalizeNfc(token.content, buffer));
    selected.push_back(std::move(token));
  }
  return selected;
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const json& file, const std::vector<AddedToken>& tokens)
      : composes(ParseNormalizer(file.value("normalizer", json()))),
        raw_tokens(Select(tokens, false, composes)),
        normalized_tokens(Select(tokens, true, composes)),
        pre_tokenizer(file.value("pre_tokenizer", json())),
        bpe(file.at("model")) {
    ParsePostProcessor(file.value("post_processor", json()), surroundings);
    CheckIds(tokens, file["model"]["vocab"]);
    max_id = bpe.max_id();
    for (const AddedToken& token : tokens) max_id = std::max(max_id, token.id);
  }

  void EncodeText(std::string_view text, std::vector<int32_t>& ids) {
    const auto on_token = [&](int32_t id) { ids.push_back(id); };
    const auto on_words = [&](std::string_view part) {
      pre_tokenizer.ForEachWord(part, [&](std::string_view word) { bpe.Encode(word, ids); });
    };
    raw_tokens.Split(
        text,
        [&](std::string_view part) {
          const std::string_view normal = composes ? NormalizeNfc(part, normal_text) : part;
          normalized_tokens.Split(normal, on_words, on_token);
        },
        on_token);
  }

  bool composes;
  AddedTokenFinder raw_tokens;
  AddedTokenFinder normalized_tokens;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  Template surroundings;
  int32_t max_id = -1;
  std::string normal_text;
};

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::Load(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) throw EngineError(plan::ExitCode::kInvalidModel, "cannot open " + path);
  const json file = json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) throw EngineError(plan::ExitCode::kInvalidModel, path + " is not a JSON object");
  try {
    return Tokenizer(std::make_unique<Parts>(file, ParseAddedTokens(file.value("added_tokens", json()))));
  } catch (const json::exception& error) {
    throw EngineError(plan::ExitCode::kInvalidModel, path + " is not a tokenizer.json: " + error.what());
  } catch (const EngineError& error) {
    throw EngineError(error.code(), path + ": " + error.what());
  }
}

void Tokenizer::Encode(std::string_view text, bool add_special_tokens, std::vector<int32_t>& ids) {
  if (!IsValidUtf8(text)) throw EngineError(plan::ExitCode::kInvalidData, "text is not valid UTF-8");
  const Template& around = parts_->surroundings;
  if (add_special_tokens) ids.insert(ids.end(), around.before.begin(), around.before.end());
  parts_->EncodeText(text, ids);
  if (add_special_tokens) ids.insert(ids.end(), around.after.begin(), around.after.end());
}

int32_t Tokenizer::max_id() const { return parts_->max_id; }

}  // namespace ithaca::engine
