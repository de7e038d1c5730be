#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace ithaca {

// What the page shows of one job. Texts are as the user gave them; the page escapes them.
struct StatusRow {
  std::string id;
  std::string name;
  std::string state;     // lower-case name
  std::string sentence;  // why it is in that state; may be empty
  int attempt = 0;
  int64_t step = 0;
  int64_t steps = 0;  // 0: not known
  double loss = 0;    // shown once there is a step
  double tokens_per_second = 0;
  double mfu = 0;  // 0: not known
  std::vector<std::pair<int, int64_t>> peak_bytes_by_rank;
  std::vector<double> losses;  // oldest first, for the small curve
  absl::Time created;
};

struct StatusView {
  std::vector<StatusRow> rows;  // in the order to show
  int slots_used = 0;
  int slots_total = 0;
  int queued = 0;
  std::string version;
  absl::Time now;
};

// `text` with the five characters that mean something in HTML replaced, control characters too.
std::string EscapeHtml(const std::string& text);

// One self-contained page that refreshes itself every two seconds; without scripts it reloads itself as a whole.
std::string RenderStatusPage(const StatusView& view);

}  // namespace ithaca
