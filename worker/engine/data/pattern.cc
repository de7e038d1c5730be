#include "worker/engine/data/pattern.h"

#include "worker/engine/data/unicode.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

constexpr size_t kJitStackBytes = size_t{8} << 20;
constexpr uint32_t kHeapLimitKiB = 1u << 20;

std::string MessageOf(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Pattern::Pattern(const std::string& pcre, uint32_t options) : source_(pcre) {
  // In PCRE2 a literal pattern allows no UCP; it needs none.
  const uint32_t all = PCRE2_UTF | options | ((options & PCRE2_LITERAL) != 0 ? 0 : PCRE2_UCP);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>> compile_context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(compile_context.get(), PCRE2_NEWLINE_LF);
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre.data()), pcre.size(), all, &error, &offset,
                            compile_context.get()));
  if (code_ == nullptr) {
    throw EngineError(plan::ExitCode::kInvalidModel, "tokenizer pattern " + pcre + " does not compile at " +
                                                         std::to_string(offset) + ": " + MessageOf(error));
  }
  match_data_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  context_.reset(pcre2_match_context_create(nullptr));
  pcre2_set_heap_limit(context_.get(), kHeapLimitKiB);
  has_jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
  if (has_jit_) {
    jit_stack_.reset(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr));
    pcre2_jit_stack_assign(context_.get(), nullptr, jit_stack_.get());
  }
}

std::optional<Pattern::Range> Pattern::Search(std::string_view text, size_t from) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (has_jit_) {
    result = pcre2_jit_match(code_.get(), subject, text.size(), from, 0, match_data_.get(), context_.get());
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // without JIT the heap is the limit
    result = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match_data_.get(),
                         context_.get());
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    throw EngineError(plan::ExitCode::kInvalidData,
                      "tokenizer pattern " + source_ + " cannot be matched: " + MessageOf(result));
  }
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match_data_.get());
  return Range{offsets[0], offsets[1]};
}

size_t Pattern::NextCharacter(std::string_view text, size_t at) {
  return at >= text.size() ? at + 1 : at + static_cast<size_t>(FirstCodePoint(text.substr(at)).bytes);
}

}  // namespace ithaca::engine
