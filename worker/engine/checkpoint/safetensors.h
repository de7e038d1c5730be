#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "worker/engine/checkpoint/durable_file.h"
#include "worker/plan/exit_code.h"

namespace ithaca::engine {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// What the header of a safetensors file says of one tensor.
struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // byte offsets in the file
  int64_t end = 0;
};

// One safetensors file, opened and its header checked in full: lengths, offsets, shapes against bytes, no overlap and
// no gap. Tensors are read when asked for. Owns the open file; const methods may be called from several threads.
// Throws EngineError with the given code and one sentence that names the file and the tensor.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(std::string path, plan::ExitCode code = plan::ExitCode::kInvalidModel);
  SafetensorsReader(SafetensorsReader&& other) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&& other) noexcept;
  ~SafetensorsReader();

  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;  // sorted
  bool Has(const std::string& name) const { return entries_.count(name) > 0; }
  const std::vector<int64_t>& Shape(const std::string& name) const { return Entry(name).shape; }
  at::ScalarType DType(const std::string& name) const { return Entry(name).dtype; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // A contiguous CPU tensor of its own memory.
  at::Tensor Load(const std::string& name) const;

 private:
  const TensorEntry& Entry(const std::string& name) const;
  std::string ReadHeader(int64_t file_bytes);
  void ParseHeader(const std::string& header, int64_t file_bytes);
  void CheckCoverage(int64_t data_begin, int64_t file_bytes) const;
  [[noreturn]] void Fail(const std::string& what) const;

  std::string path_;
  plan::ExitCode code_;
  int fd_ = -1;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

struct TensorSpec {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
};

// A safetensors file written tensor by tensor, so that not all of them need exist at once. Throws EngineError
// (checkpoint I/O); names are unique.
class SafetensorsWriter {
 public:
  // Writes the header; the tensors follow in the order of `specs`, which is by falling size of their elements.
  SafetensorsWriter(const std::string& path, const std::vector<TensorSpec>& specs,
                    const std::map<std::string, std::string>& metadata = {});

  // The next tensors, on any device; each is copied to the host by itself.
  void Append(const NamedTensors& tensors);

  // After the last one: flushes to the disk.
  FileDigest Commit();

 private:
  DurableFile file_;
  std::vector<TensorSpec> specs_;
  size_t next_ = 0;
};

// Writes a safetensors file and flushes it to the disk. Tensors may be on any device and are copied to the host one at
// a time; names are unique. Throws EngineError (checkpoint I/O).
FileDigest WriteSafetensors(const std::string& path, const NamedTensors& tensors,
                            const std::map<std::string, std::string>& metadata = {});

}  // namespace ithaca::engine
