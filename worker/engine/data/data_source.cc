#include "worker/engine/data/data_source.h"

#include "worker/engine/data/documents.h"
#include "worker/engine/data/packing.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

struct DataSource::State {
  State(Corpus documents, const DataOptions& options)
      : corpus(std::move(documents)),
        packing(corpus, options.sequence_length, options.packing, options.shuffle, options.seed),
        options(options) {}

  int64_t Padded(int64_t tokens) const {
    return (tokens + options.multiple_of - 1) / options.multiple_of * options.multiple_of;
  }

  Corpus corpus;
  Packing packing;
  DataOptions options;
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
  const std::vector<Piece> pieces = state_->packing.Pieces(index / per_epoch, index % per_epoch);
  const DataOptions& options = state_->options;
  const int64_t tokens = options.packing ? options.sequence_length : pieces.front().end - pieces.front().begin;
  return LayOut(state_->corpus, pieces, state_->Padded(tokens));
}

}  // namespace ithaca::engine
