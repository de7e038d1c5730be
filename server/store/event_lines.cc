#include "server/store/event_lines.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "absl/strings/str_cat.h"

namespace ithaca {
namespace {

constexpr size_t kBlock = 256 << 10;
constexpr int64_t kMaxEventBytes = 16 << 20;
constexpr std::string_view kEnd = "}\n";

// Takes `word` and a number after it off the front of `text`.
bool TakeNumber(std::string_view& text, std::string_view word, int64_t& number) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(end - text.data());
  return true;
}

// Adds up to a block from the file to `text`; whether there was anything.
absl::StatusOr<bool> ReadMore(int fd, int64_t position, std::string& text) {
  const size_t before = text.size();
  text.resize(before + kBlock);
  ssize_t count = 0;
  do {
    count = ::pread(fd, text.data() + before, kBlock, position + static_cast<int64_t>(before));
  } while (count < 0 && errno == EINTR);
  if (count < 0) return absl::ErrnoToStatus(errno, "cannot read an attempt's events");
  text.resize(before + static_cast<size_t>(count));
  return count > 0;
}

}  // namespace

std::string ToLine(const EngineEventRecord& event) {
  return absl::StrCat("{\"rank\":", event.rank, ",\"offset\":", event.offset, ",\"size\":", event.json.size(),
                      ",\"event\":", event.json, "}\n");
}

size_t FromLine(std::string_view text, EngineEventRecord& event) {
  event.rank = -1;
  std::string_view rest = text;
  int64_t rank = 0;
  int64_t size = 0;
  constexpr std::string_view kEvent = ",\"event\":";
  const bool header = TakeNumber(rest, "{\"rank\":", rank) && TakeNumber(rest, ",\"offset\":", event.offset) &&
                      TakeNumber(rest, ",\"size\":", size) && rest.starts_with(kEvent) && size >= 0 &&
                      size <= kMaxEventBytes;
  if (header) {
    rest.remove_prefix(kEvent.size());
    const size_t length = static_cast<size_t>(size);
    if (rest.size() < length + kEnd.size()) return 0;
    if (rest.substr(length, kEnd.size()) == kEnd) {
      event.rank = static_cast<int>(rank);
      event.json = std::string(rest.substr(0, length));
      return static_cast<size_t>(rest.data() - text.data()) + length + kEnd.size();
    }
  }
  const size_t newline = text.find('\n');
  return newline == std::string_view::npos ? 0 : newline + 1;
}

absl::StatusOr<EventPage> ReadLines(int fd, int64_t position, int max_events) {
  EventPage page;
  page.next_position = position;
  std::string text;
  size_t used = 0;
  while (static_cast<int>(page.events.size()) < max_events) {
    EngineEventRecord event;
    const size_t length = FromLine(std::string_view(text).substr(used), event);
    if (length == 0) {
      text.erase(0, used);
      used = 0;
      absl::StatusOr<bool> more = ReadMore(fd, page.next_position, text);
      if (!more.ok()) return more.status();
      if (!*more) return page;
      continue;
    }
    used += length;
    page.next_position += static_cast<int64_t>(length);
    if (event.rank < 0) continue;
    page.events.push_back(std::move(event));
    page.ends.push_back(page.next_position);
  }
  page.at_end = false;
  return page;
}

}  // namespace ithaca
