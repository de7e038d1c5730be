#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ithaca::engine {

// Text to token ids by a Hugging Face tokenizer.json of the byte-level BPE kind (Llama 3, Qwen 2 and 3, SmolLM2): added
// tokens, NFC, pre-tokenizer, BPE, template. Ids equal those of Hugging Face `tokenizers`; truncation and padding in
// the file are ignored, as transformers does. Movable, used by one thread (it remembers words).
//
// Load throws EngineError (invalid model) that names the file and what in it is damaged or not supported; a part is
// never skipped silently.
class Tokenizer {
 public:
  static Tokenizer Load(const std::string& path);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Appends the ids of `text`; with `add_special_tokens` also those of the template, such as a token that begins every
  // text. Throws EngineError (invalid data) if `text` is not valid UTF-8.
  void Encode(std::string_view text, bool add_special_tokens, std::vector<int32_t>& ids);

  // The highest id it can produce; the model's vocabulary must be larger.
  int32_t max_id() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace ithaca::engine
