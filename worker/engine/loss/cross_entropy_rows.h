#pragma once

#include <cstdint>

namespace ithaca::engine::cpu {

// Cross-entropy of rows of logits and its gradient, in place, in one pass over each row: logits [rows, vocab] become
// scale * (softmax - one hot of the label), or zero where the label is negative. Returns the sum over labelled rows of
// log(sum exp) - logit[label], in double. Without gradient (scale = 0) the logits' content is undefined afterwards.
double CrossEntropyRows(float* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale);

}  // namespace ithaca::engine::cpu
