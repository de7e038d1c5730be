#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ithaca/v1/job.pb.h"

// How values look on a terminal. Pure functions.
namespace ithaca::client {

std::string FormatSeconds(double seconds);                       // "4.1s" "42s" "13m 40s" "2h 05m" "3d 04h"
std::string FormatInteger(int64_t value);                        // "1,234,567"
std::string FormatFixed(double value, int decimals);             // "2.6312"
std::string FormatLearningRate(double value);                    // "2.0e-05"
std::string FormatClock(const google::protobuf::Timestamp& at);  // "2026-11-25 13:04:05", UTC

std::string StateName(v1::JobState state);                  // "RUNNING"
std::string ReasonName(v1::JobReason reason);               // "waiting for slots"; empty for UNSPECIFIED
bool IsTerminal(v1::JobState state);                        // it will not change any more
double SecondsOf(const google::protobuf::Timestamp& time);  // since the epoch

// "step 3 of 200" as a bar: `width` cells, full and part blocks.
std::string ProgressBar(double share, int width);

// Columns that are as wide as their widest cell, two blanks apart; numbers to the right.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Cells a text takes on a terminal: code points, which is right for what we print.
size_t DisplayWidth(const std::string& text);
// The text cut to at most `width` cells, ending in "..." if anything is missing.
std::string Truncate(const std::string& text, size_t width);

std::string ToJsonText(const google::protobuf::Message& message);  // indented
std::string ToJsonLine(const google::protobuf::Message& message);  // one line
std::string ToJsonText(const nlohmann::ordered_json& json);
std::string ToYamlText(const google::protobuf::Message& message);

}  // namespace ithaca::client
