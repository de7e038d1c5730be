#pragma once

#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "ithaca/v1/job.pb.h"

namespace ithaca {

// Which jobs ListJobs returns: terms joined by " AND ", each state=RUNNING (or state=QUEUED|RUNNING), name=NAME or
// labels.KEY=VALUE. Empty: all. A term that is not one of these is INVALID_ARGUMENT.
class ListFilter {
 public:
  static absl::StatusOr<ListFilter> Parse(const std::string& text);
  bool Matches(const v1::Job& job) const;

 private:
  std::set<v1::JobState> states_;  // empty: any
  std::string name_;               // empty: any
  std::map<std::string, std::string> labels_;
};

// Opaque tokens of pages: a position, bound to what was asked. A token that was not made for the same question is
// INVALID_ARGUMENT.
std::string MakePageToken(const std::string& question, const std::string& position);
absl::StatusOr<std::string> ReadPageToken(const std::string& question, const std::string& token);

// The page size that is used: `fallback` for 0, at most 1000; negative is INVALID_ARGUMENT.
absl::StatusOr<int> PageSize(int asked, int fallback);

}  // namespace ithaca
