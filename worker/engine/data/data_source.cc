#include "worker/engine/data/data_source.h"

#include "worker/engine/data/documents.h"
#include "worker/engine/data/packing.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

struct DataSource::State {
  State(Corpus documents, const DataOptions& options)
      : corpus(std::move(documents)),
        packing(corpus, options.sequence_length, options.packing, options.shuffle, options.seed),
        padded_length((options.sequence_length + options.multiple_of - 1) / options.multiple_of * options.multiple_of) {
  }

  Corpus corpus;
  Packing packing;
  int64_t padded_length;  // T
};

DataSource::DataSource(std::unique_ptr<State> state) : state_(std::move(state)) {}
DataSource::DataSource(DataSource&&) noexcept = default;
DataSource& DataSource::operator=(DataSource&&) noexcept = default;
DataSource::~DataSource() = default;

DataSource DataSource::Open(const DataOptions& options) {
  if (options.sequence_length < 1 || options.multiple_of < 1) {
    throw EngineError(plan::ExitCode::kInvalidConfig, "sequence_length and its divisor must be at least 1");
  }
  return DataSource(std::make_unique<State>(ReadCorpus(options), options));
}

int64_t DataSource::sequences_per_epoch() const { return state_->packing.sequences(); }

int64_t DataSource::tokens_per_epoch() const { return state_->corpus.tokens(); }

Sequence DataSource::Get(int64_t index) const {
  const int64_t per_epoch = sequences_per_epoch();
  return LayOut(state_->corpus, state_->packing.Pieces(index / per_epoch, index % per_epoch), state_->padded_length);
}

}  // namespace ithaca::engine
