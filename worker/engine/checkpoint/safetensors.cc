#include "worker/engine/checkpoint/safetensors.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "worker/engine/errors.h"

// Format: 8 bytes little-endian N, N bytes of JSON {name: {dtype, shape, data_offsets}}, then the data, which the
// offsets (counted from the end of the header) cover exactly. https://huggingface.co/docs/safetensors

namespace ithaca::engine {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;

struct DTypeName {
  const char* name;
  at::ScalarType dtype;
};

constexpr std::array<DTypeName, 10> kDTypes = {{{"F32", at::kFloat},
                                                {"BF16", at::kBFloat16},
                                                {"F16", at::kHalf},
                                                {"F64", at::kDouble},
                                                {"I64", at::kLong},
                                                {"I32", at::kInt},
                                                {"I16", at::kShort},
                                                {"I8", at::kChar},
                                                {"U8", at::kByte},
                                                {"BOOL", at::kBool}}};

const char* NameOf(at::ScalarType dtype) {
  for (const DTypeName& known : kDTypes) {
    if (known.dtype == dtype) return known.name;
  }
  return nullptr;
}

// A whole number >= 0 that fits, or -1.
int64_t AsCount(const json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX))
    return value.get<int64_t>();
  return -1;
}

// One tensor's entry with offsets relative to the data; `problem` says what is wrong with it.
TensorEntry ParseEntry(const json& value, std::string& problem) {
  TensorEntry entry{};
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets")) {
    problem = "lacks dtype, shape or data_offsets";
    return entry;
  }
  const json& dtype = value["dtype"];
  const auto* known =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeName& candidate) { return dtype == candidate.name; });
  if (known == kDTypes.end()) {
    problem = "has unsupported dtype " + dtype.dump();
    return entry;
  }
  entry.dtype = known->dtype;
  int64_t bytes = static_cast<int64_t>(c10::elementSize(entry.dtype));
  bool valid = value["shape"].is_array();
  for (const json& size : value["shape"]) {
    const int64_t count = AsCount(size);
    valid = valid && count >= 0 && !__builtin_mul_overflow(bytes, count, &bytes);
    entry.shape.push_back(count);
  }
  if (!valid) {
    problem = "has an invalid shape " + value["shape"].dump();
    return entry;
  }
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    problem = "has invalid data_offsets " + offsets.dump();
    return entry;
  }
  entry.begin = AsCount(offsets[0]);
  entry.end = AsCount(offsets[1]);
  if (entry.begin < 0 || entry.end < entry.begin) {
    problem = "has invalid data_offsets " + offsets.dump();
  } else if (entry.end - entry.begin != bytes) {
    problem = "has " + std::to_string(entry.end - entry.begin) + " bytes, but its shape and dtype need " +
              std::to_string(bytes);
  }
  return entry;
}

json ParseJsonWithUniqueKeys(const std::string& text, std::string& duplicate) {
  std::set<std::string> seen;
  return json::parse(text, [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !seen.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  });
}

// Reads exactly `bytes`, or says what happened.
std::string ReadExactly(int fd, void* out, int64_t bytes, int64_t offset) {
  char* next = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(fd, next, static_cast<size_t>(std::min<int64_t>(bytes, int64_t{1} << 30)), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::strerror(errno);
    if (got == 0) return "the file became shorter while it was read";
    next += got;
    bytes -= got;
    offset += got;
  }
  return "";
}

}  // namespace

SafetensorsReader::SafetensorsReader(std::string path, plan::ExitCode code) : path_(std::move(path)), code_(code) {
  fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) Fail(std::string("cannot be opened: ") + std::strerror(errno));
  try {
    struct stat status {};
    if (fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) Fail("is not a regular file");
    ParseHeader(ReadHeader(status.st_size), status.st_size);
  } catch (...) {
    close(fd_);
    throw;
  }
}

SafetensorsReader::SafetensorsReader(SafetensorsReader&& other) noexcept
    : path_(std::move(other.path_)),
      code_(other.code_),
      fd_(std::exchange(other.fd_, -1)),
      entries_(std::move(other.entries_)),
      metadata_(std::move(other.metadata_)) {}

SafetensorsReader& SafetensorsReader::operator=(SafetensorsReader&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(code_, other.code_);
  std::swap(fd_, other.fd_);
  std::swap(entries_, other.entries_);
  std::swap(metadata_, other.metadata_);
  return *this;
}

SafetensorsReader::~SafetensorsReader() {
  if (fd_ >= 0) close(fd_);
}

void SafetensorsReader::Fail(const std::string& what) const { throw EngineError(code_, path_ + " " + what); }

std::string SafetensorsReader::ReadHeader(int64_t file_bytes) {
  if (file_bytes < kLengthBytes) Fail("is truncated: it has " + std::to_string(file_bytes) + " bytes and no header");
  uint64_t length = 0;
  std::string problem = ReadExactly(fd_, &length, kLengthBytes, 0);
  if (!problem.empty()) Fail("cannot be read: " + problem);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    Fail("is no safetensors file: its header would have " + std::to_string(length) + " bytes");
  }
  if (static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    Fail("is truncated: its header has " + std::to_string(length) + " bytes, the file " + std::to_string(file_bytes));
  }
  std::string header(length, '\0');
  problem = ReadExactly(fd_, header.data(), static_cast<int64_t>(length), kLengthBytes);
  if (!problem.empty()) Fail("cannot be read: " + problem);
  return header;
}

void SafetensorsReader::ParseHeader(const std::string& header, int64_t file_bytes) {
  json parsed;
  std::string duplicate;
  try {
    parsed = ParseJsonWithUniqueKeys(header, duplicate);
  } catch (const json::exception&) {
    Fail("is no safetensors file: its header is not valid JSON");
  }
  if (!parsed.is_object()) Fail("is no safetensors file: its header is not a JSON object");
  if (!duplicate.empty()) Fail("names tensor " + duplicate + " twice");
  const int64_t data_begin = kLengthBytes + static_cast<int64_t>(header.size());
  const int64_t data_bytes = file_bytes - data_begin;
  for (const auto& [name, value] : parsed.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) Fail("has metadata that is not an object of strings");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) Fail("has metadata that is not an object of strings");
        metadata_[key] = text.get<std::string>();
      }
      continue;
    }
    std::string problem;
    TensorEntry entry = ParseEntry(value, problem);
    if (problem.empty() && entry.end > data_bytes) {
      problem = "ends at byte " + std::to_string(entry.end) + " of the data, but the file has only " +
                std::to_string(data_bytes) + ": it is truncated";
    }
    if (!problem.empty()) Fail("is damaged: tensor " + name + " " + problem);
    entry.begin += data_begin;
    entry.end += data_begin;
    entries_.emplace(name, std::move(entry));
  }
  CheckCoverage(data_begin, file_bytes);
}

void SafetensorsReader::CheckCoverage(int64_t data_begin, int64_t file_bytes) const {
  using Item = std::pair<const std::string, TensorEntry>;
  std::vector<const Item*> items;
  for (const Item& item : entries_) items.push_back(&item);
  std::sort(items.begin(), items.end(), [](const Item* a, const Item* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  int64_t covered = data_begin;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& [name, entry] = *items[i];
    if (entry.begin < covered) Fail("is damaged: tensors " + items[i - 1]->first + " and " + name + " overlap");
    if (entry.begin > covered) Fail("is damaged: there is a gap before tensor " + name);
    covered = entry.end;
  }
  if (covered != file_bytes) {
    Fail("is damaged: it has " + std::to_string(file_bytes - covered) + " bytes after its last tensor");
  }
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const TensorEntry& SafetensorsReader::Entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) Fail("has no tensor " + name);
  return found->second;
}

at::Tensor SafetensorsReader::Load(const std::string& name) const {
  const TensorEntry& entry = Entry(name);
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
  const std::string problem = ReadExactly(fd_, tensor.mutable_data_ptr(), entry.end - entry.begin, entry.begin);
  if (!problem.empty()) Fail("cannot be read at tensor " + name + ": " + problem);
  return tensor;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<TensorSpec>& specs,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), specs_(specs) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorSpec& spec : specs_) {
    const char* dtype = NameOf(spec.dtype);
    if (dtype == nullptr || header.contains(spec.name)) {
      throw EngineError(plan::ExitCode::kInternal,
                        path + " cannot hold tensor " + spec.name + ": " +
                            (dtype == nullptr ? "its dtype has no name there" : "it is named twice"));
    }
    int64_t end = static_cast<int64_t>(c10::elementSize(spec.dtype));
    for (const int64_t size : spec.shape) end *= size;
    end += offset;
    header[spec.name] = {{"dtype", dtype}, {"shape", spec.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  file_.Write(&length, kLengthBytes);
  file_.Write(text);
}

void SafetensorsWriter::Append(const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(next_ < specs_.size() && specs_[next_].name == name && specs_[next_].dtype == tensor.scalar_type() &&
                    tensor.sizes() == at::IntArrayRef(specs_[next_].shape),
                name, " is not the tensor that the header has next");
    ++next_;
    const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
    file_.Write(host.const_data_ptr(), static_cast<int64_t>(host.nbytes()));
  }
}

FileDigest SafetensorsWriter::Commit() {
  TORCH_CHECK(next_ == specs_.size(), "tensors are missing");
  return file_.Commit();
}

FileDigest WriteSafetensors(const std::string& path, const NamedTensors& tensors,
                            const std::map<std::string, std::string>& metadata) {
  NamedTensors ordered = tensors;
  // Wide elements first keeps every tensor aligned to its element size.
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return a.second.itemsize() > b.second.itemsize(); });
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : ordered) specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  SafetensorsWriter writer(path, specs, metadata);
  writer.Append(ordered);
  return writer.Commit();
}

}  // namespace ithaca::engine
