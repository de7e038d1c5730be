#include "client/format.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "proto/message_json.h"

namespace ithaca::client {
namespace {

using json = nlohmann::ordered_json;

std::string Dump(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string FormatSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return absl::StrFormat("%.1fs", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return absl::StrCat(whole, "s");
  if (whole < 3600) return absl::StrFormat("%dm %02ds", whole / 60, whole % 60);
  if (whole < 86400) return absl::StrFormat("%dh %02dm", whole / 3600, whole / 60 % 60);
  return absl::StrFormat("%dd %02dh", whole / 86400, whole / 3600 % 24);
}

std::string FormatInteger(int64_t value) {
  std::string digits = absl::StrCat(value);
  const int first = value < 0 ? 1 : 0;
  for (int i = static_cast<int>(digits.size()) - 3; i > first; i -= 3) digits.insert(i, 1, ',');
  return digits;
}

std::string FormatFixed(double value, int decimals) { return absl::StrFormat("%.*f", decimals, value); }

std::string FormatLearningRate(double value) { return absl::StrFormat("%.1e", value); }

std::string FormatClock(const google::protobuf::Timestamp& at) {
  const std::time_t seconds = at.seconds();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return absl::StrFormat("%04d-%02d-%02d %02d:%02d:%02d", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                         parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string StateName(v1::JobState state) {
  const std::string name = v1::JobState_Name(state);
  constexpr size_t kPrefix = sizeof("JOB_STATE_") - 1;
  return name.size() > kPrefix ? name.substr(kPrefix) : absl::StrCat("state ", static_cast<int>(state));
}

std::string ReasonName(v1::JobReason reason) {
  if (reason == v1::JOB_REASON_UNSPECIFIED) return "";
  const std::string name = v1::JobReason_Name(reason);
  constexpr size_t kPrefix = sizeof("JOB_REASON_") - 1;
  if (name.size() <= kPrefix) return absl::StrCat("reason ", static_cast<int>(reason));
  return absl::StrReplaceAll(absl::AsciiStrToLower(name.substr(kPrefix)), {{"_", " "}});
}

bool IsTerminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

double SecondsOf(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + time.nanos() * 1e-9;
}

std::string ProgressBar(double share, int width) {
  static constexpr const char* kPartBlocks[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::clamp(share, 0.0, 1.0) * width * 8);
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kPartBlocks[eighths % 8];
  for (int i = (eighths + 7) / 8; i < width; ++i) bar += "░";
  return bar;
}

std::string Table::ToString() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(DisplayWidth(column.title));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string cell = cell_of(i);
      const std::string blanks(widths[i] - DisplayWidth(cell), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ",
                      columns_[i].align == Align::kRight ? absl::StrCat(blanks, cell) : absl::StrCat(cell, blanks));
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&text, line, "\n");
  };
  add_line([&](size_t i) { return columns_[i].title; });
  for (const auto& row : rows_) {
    add_line([&](size_t i) { return row[i]; });
  }
  return text;
}

size_t DisplayWidth(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::string Truncate(const std::string& text, size_t width) {
  constexpr size_t kDots = 3;
  if (DisplayWidth(text) <= width) return text;
  std::string cut;
  size_t cells = 0;
  for (const char c : text) {
    const bool starts_cell = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (starts_cell && ++cells + kDots > width) break;
    cut += c;
  }
  return width < kDots ? std::string(width, '.') : absl::StrCat(cut, "...");
}

std::string ToJsonText(const json& value) { return Dump(value, 2) + "\n"; }
std::string ToJsonText(const google::protobuf::Message& message) { return ToJsonText(MessageToJson(message)); }
std::string ToJsonLine(const google::protobuf::Message& message) { return Dump(MessageToJson(message), -1) + "\n"; }

std::string ToYamlText(const google::protobuf::Message& message) { return ToYaml(MessageToJson(message)); }

}  // namespace ithaca::client
