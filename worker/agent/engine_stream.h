#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ithaca/v1/worker_service.pb.h"

namespace ithaca {

// What came of the bytes an engine wrote to its events pipe.
struct EngineRecords {
  std::vector<std::string> events;         // JSON objects without newline, all kinds but heartbeats, in order
  std::optional<v1::Heartbeat> heartbeat;  // the newest
  std::optional<v1::Listening> listening;  // from rank 0
  std::optional<std::string> failed_json;  // the `failed` event
  bool urgent = false;                     // something people or the coordinator wait for
  int64_t broken_lines = 0;                // not a JSON object with an `event`, or too long
};

// Cuts one engine's events pipe into records. An engine is not trusted to write sense: a line that is not a JSON object
// with a text `event` is counted and dropped, and so is one longer than 1 MiB. One thread.
class EngineStream {
 public:
  explicit EngineStream(int rank = 0) : rank_(rank) {}

  // Takes the next bytes; a line may come in pieces.
  EngineRecords Feed(const std::string& bytes);

 private:
  void TakeLine(const std::string& line, EngineRecords* records);

  int rank_;
  std::string partial_;
  bool skipping_ = false;  // inside a line that is too long
};

}  // namespace ithaca
