#include "server/core/list_filter.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/errors.h"
#include "proto/status_macros.h"

namespace ithaca {
namespace {

constexpr int kMaxPageSize = 1000;

// FNV-1a, 64 bits: the same in every build, as tokens outlive a restart.
uint64_t Fingerprint(const std::string& text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ULL;
  return hash;
}

absl::Status BadTerm(const std::string& term) {
  return InvalidFields(
      {{"filter", 0,
        absl::StrCat("has the term '", term,
                     "'; known are state=STATE|STATE, name=NAME and labels.KEY=VALUE, joined by ' AND '")}});
}

}  // namespace

absl::StatusOr<ListFilter> ListFilter::Parse(const std::string& text) {
  ListFilter filter;
  if (absl::StripAsciiWhitespace(text).empty()) return filter;
  for (const absl::string_view piece : absl::StrSplit(text, " AND ")) {
    const std::string term(absl::StripAsciiWhitespace(piece));
    const std::vector<std::string> sides = absl::StrSplit(term, absl::MaxSplits('=', 1));
    if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) return BadTerm(term);
    if (sides[0] == "name") {
      filter.name_ = sides[1];
    } else if (absl::StartsWith(sides[0], "labels.")) {
      filter.labels_[std::string(absl::StripPrefix(sides[0], "labels."))] = sides[1];
    } else if (sides[0] == "state") {
      for (const absl::string_view name : absl::StrSplit(sides[1], '|')) {
        v1::JobState state;
        if (!v1::JobState_Parse(absl::StrCat("JOB_STATE_", name), &state)) return BadTerm(term);
        filter.states_.insert(state);
      }
    } else {
      return BadTerm(term);
    }
  }
  return filter;
}

bool ListFilter::Matches(const v1::Job& job) const {
  if (!states_.empty() && !states_.contains(job.state())) return false;
  if (!name_.empty() && name_ != job.name()) return false;
  return std::ranges::all_of(labels_, [&](const auto& label) {
    const auto found = job.labels().find(label.first);
    return found != job.labels().end() && found->second == label.second;
  });
}

std::string MakePageToken(const std::string& question, const std::string& position) {
  return absl::WebSafeBase64Escape(absl::StrCat(absl::Hex(Fingerprint(question)), ":", position));
}

absl::StatusOr<std::string> ReadPageToken(const std::string& question, const std::string& token) {
  std::string plain;
  const std::string prefix = absl::StrCat(absl::Hex(Fingerprint(question)), ":");
  if (!absl::WebSafeBase64Unescape(token, &plain) || !absl::StartsWith(plain, prefix)) {
    return InvalidFields({{"page_token", 0, "is not one that this list, with the same other arguments, has given"}});
  }
  return plain.substr(prefix.size());
}

absl::StatusOr<int> PageSize(int asked, int fallback) {
  if (asked < 0) return InvalidFields({{"page_size", 0, absl::StrCat("must not be negative, but is ", asked)}});
  return asked == 0 ? fallback : std::min(asked, kMaxPageSize);
}

}  // namespace ithaca
