#pragma once

#include <google/protobuf/repeated_field.h>

#include <string>
#include <vector>

#include "ithaca/v1/job.pb.h"
#include "ithaca/v1/job_service.pb.h"

// Jobs, events and metrics as tables. Pure: `now` is in seconds since the epoch.
namespace ithaca::client {

// One line a job: id, name, state, progress, loss, speed, age, and why it is not running.
std::string FormatJobList(const std::vector<v1::Job>& jobs, double now, int columns);

// Everything about one job that people ask for.
std::string FormatJob(const v1::Job& job, double now);

// The ranks of a job: host, process, what they do, memory.
std::string FormatRanks(const google::protobuf::RepeatedPtrField<v1::RankStatus>& ranks);

std::string FormatEvents(const std::vector<v1::Event>& events, int columns);

// The title line of FormatMetricsRow.
std::string FormatMetricsHeader();
std::string FormatMetricsRow(const v1::StreamMetricsResponse& metrics);

}  // namespace ithaca::client
