// The lists about one job: what happened to it, and its checkpoints.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/time_util.h"
#include "proto/errors.h"
#include "proto/message_limits.h"
#include "proto/shortened.h"
#include "proto/status_macros.h"
#include "server/core/list_filter.h"
#include "server/core/registry.h"

namespace ithaca {
namespace {

using google::protobuf::util::TimeUtil;
using nlohmann::json;

constexpr int kDefaultPage = 100;
constexpr int kReadPage = 4096;
constexpr size_t kMaxSentenceBytes = 4 << 10;  // the event itself goes along

v1::Event FromState(const StateEvent& state) {
  v1::Event event;
  event.set_id(absl::StrCat("s", absl::Dec(state.number, absl::kZeroPad8)));
  *event.mutable_time() = TimeUtil::MicrosecondsToTimestamp(absl::ToUnixMicros(state.time));
  event.set_attempt(state.attempt);
  event.set_kind("state");
  event.set_state(state.state);
  event.set_reason(state.cause.reason);
  event.set_message(state.cause.message);
  return event;
}

std::string Text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string Sentence(const std::string& kind, int rank, const json& event) {
  const std::string who = absl::StrCat("rank ", rank);
  if (kind == "checkpoint") {
    return absl::StrCat(Text(event, "export") == "true" ? "model exported" : "checkpoint written", " after step ",
                        Text(event, "step"), ": ", Text(event, "path"));
  }
  if (kind == "listening") return absl::StrCat(who, " listens on ", Text(event, "host"), ":", Text(event, "port"));
  if (kind == "finished") {
    return absl::StrCat(who, " finished after step ", Text(event, "step"), " (", Text(event, "reason"), ")");
  }
  const std::string message = Text(event, "message");
  if (!message.empty()) return absl::StrCat(who, ": ", message);
  return kind == "ready" ? absl::StrCat(who, " is ready") : absl::StrCat(who, ": ", kind);
}

v1::Event FromEngine(int attempt, const EngineEventRecord& record) {
  v1::Event event;
  event.set_id(absl::StrCat("a", absl::Dec(attempt, absl::kZeroPad4), ".r", absl::Dec(record.rank, absl::kZeroPad4),
                            ".", absl::Dec(record.offset, absl::kZeroPad16)));
  event.set_attempt(attempt);
  event.set_rank(record.rank);
  event.set_json(record.json);
  const json parsed = json::parse(record.json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    event.set_kind("warning");
    event.set_message(absl::StrCat("rank ", record.rank, " sent an event that cannot be read"));
    return event;
  }
  event.set_kind(Text(parsed, "event"));
  event.set_message(Shortened(Sentence(event.kind(), record.rank, parsed), kMaxSentenceBytes));
  const auto time = parsed.find("time");
  if (time != parsed.end() && time->is_number()) {
    const double seconds = std::clamp(time->get<double>(), 0.0, 2.5e11);
    *event.mutable_time() = TimeUtil::MicrosecondsToTimestamp(static_cast<int64_t>(seconds * 1e6));
  }
  return event;
}

// The position a page starts at: 0 without a token.
absl::StatusOr<size_t> Start(const std::string& question, const std::string& page_token) {
  if (page_token.empty()) return 0;
  ASSIGN_OR_RETURN(const std::string position, ReadPageToken(question, page_token));
  uint64_t start = 0;
  if (!absl::SimpleAtoi(position, &start)) return InvalidFields({{"page_token", 0, "is damaged"}});
  return start;
}

// Items [start, start + size) of `all`, fewer if they are large, and the token of what follows.
template <typename Item>
std::pair<std::vector<Item>, std::string> Cut(std::vector<Item> all, size_t start, int size,
                                              const std::string& question) {
  const size_t begin = std::min(start, all.size());
  const size_t most = std::min(begin + size, all.size());
  size_t end = begin;
  for (size_t bytes = 0; end < most && bytes < kPageBytes; ++end) bytes += all[end].ByteSizeLong();
  std::vector<Item> page(std::make_move_iterator(all.begin() + begin), std::make_move_iterator(all.begin() + end));
  return {std::move(page), end < all.size() ? MakePageToken(question, absl::StrCat(end)) : ""};
}

}  // namespace

absl::StatusOr<EventListPage> Registry::ListEvents(const std::string& job_id, int page_size,
                                                   const std::string& page_token, absl::Time since) {
  ASSIGN_OR_RETURN(const int size, PageSize(page_size, kDefaultPage));
  const std::string question = absl::StrCat("events ", job_id, " ", absl::ToUnixMicros(since));
  ASSIGN_OR_RETURN(const size_t start, Start(question, page_token));
  std::vector<v1::Event> events;
  int attempts = 0;
  RETURN_IF_ERROR(table_.Read(job_id, [&](const JobEntry& entry) {
    for (const StateEvent& state : entry.events) events.push_back(FromState(state));
    attempts = entry.newest() != nullptr ? entry.newest()->number : 0;
  }));
  for (int attempt = 1; attempt <= attempts; ++attempt) {
    EventPage page;
    do {
      ASSIGN_OR_RETURN(page, files_.ReadEvents({job_id, attempt}, EventFile::kEvents, page.next_position, kReadPage));
      for (const EngineEventRecord& record : page.events) events.push_back(FromEngine(attempt, record));
    } while (!page.at_end);
  }
  const int64_t oldest = since == absl::InfinitePast() ? 0 : absl::ToUnixNanos(since);
  std::erase_if(events,
                [&](const v1::Event& event) { return TimeUtil::TimestampToNanoseconds(event.time()) < oldest; });
  std::ranges::stable_sort(events, {},
                           [](const v1::Event& event) { return TimeUtil::TimestampToNanoseconds(event.time()); });
  auto [page, token] = Cut(std::move(events), start, size, question);
  return EventListPage{std::move(page), std::move(token)};
}

absl::StatusOr<CheckpointPage> Registry::ListCheckpoints(const std::string& job_id, int page_size,
                                                         const std::string& page_token) {
  ASSIGN_OR_RETURN(const int size, PageSize(page_size, kDefaultPage));
  const std::string question = absl::StrCat("checkpoints ", job_id);
  ASSIGN_OR_RETURN(const size_t start, Start(question, page_token));
  ASSIGN_OR_RETURN(const v1::Job job, table_.Get(job_id));
  std::vector<v1::Checkpoint> all(job.checkpoints().begin(), job.checkpoints().end());
  auto [page, token] = Cut(std::move(all), start, size, question);
  return CheckpointPage{std::move(page), std::move(token)};
}

}  // namespace ithaca
