#include "server/store/sqlite_rows.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/time_util.h"
#include "proto/status_macros.h"
#include "server/store/sqlite.h"

namespace ithaca {
namespace {

using google::protobuf::util::TimeUtil;
using nlohmann::json;

constexpr int kSchemaVersion = 1;

constexpr char kSchema[] = R"sql(
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE, name TEXT NOT NULL, state TEXT NOT NULL,
  device INTEGER NOT NULL, nodes INTEGER NOT NULL, slots_per_node INTEGER NOT NULL,
  not_before INTEGER NOT NULL, stop_deadline INTEGER NOT NULL, stop_grace INTEGER NOT NULL, run_time INTEGER NOT NULL,
  job BLOB NOT NULL);
CREATE TABLE attempts (
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL,
  placement TEXT NOT NULL, workers TEXT NOT NULL,
  launch_time INTEGER NOT NULL, running_time INTEGER NOT NULL, end_time INTEGER NOT NULL,
  reason INTEGER NOT NULL, blame INTEGER NOT NULL, message TEXT NOT NULL,
  PRIMARY KEY (job_id, number)) WITHOUT ROWID;
CREATE TABLE tokens (
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, attempt INTEGER NOT NULL, token TEXT NOT NULL,
  PRIMARY KEY (job_id, attempt)) WITHOUT ROWID;
CREATE TABLE events (
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL, time INTEGER NOT NULL,
  attempt INTEGER NOT NULL, state INTEGER NOT NULL, reason INTEGER NOT NULL, blame INTEGER NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (job_id, number)) WITHOUT ROWID;
CREATE TABLE checkpoints (
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, step INTEGER NOT NULL, is_export INTEGER NOT NULL,
  attempt INTEGER NOT NULL, path TEXT NOT NULL, size_bytes INTEGER NOT NULL, create_time INTEGER NOT NULL,
  PRIMARY KEY (job_id, step, is_export)) WITHOUT ROWID;
CREATE TABLE request_keys (
  owner TEXT NOT NULL, request_id TEXT NOT NULL, job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  PRIMARY KEY (owner, request_id)) WITHOUT ROWID;
)sql";

int64_t ToMicros(absl::Time time) { return absl::ToUnixMicros(time); }  // infinite ones become the ends of the range

absl::Time FromMicros(int64_t micros) {
  if (micros == std::numeric_limits<int64_t>::max()) return absl::InfiniteFuture();
  if (micros == std::numeric_limits<int64_t>::min()) return absl::InfinitePast();
  return absl::FromUnixMicros(micros);
}

std::string PlacementToText(const std::vector<NodePlacement>& placement) {
  json list = json::array();
  for (const NodePlacement& node : placement) {
    list.push_back({{"node", node.node}, {"device", static_cast<int>(node.device)}, {"slots", node.slots}});
  }
  return list.dump();
}

std::string WorkersToText(const std::vector<WorkerProcess>& workers) {
  json list = json::array();
  for (const WorkerProcess& worker : workers) {
    list.push_back({{"host", worker.host},
                    {"pid", worker.pid},
                    {"pid_start_time", worker.pid_start_time},
                    {"reference", worker.reference}});
  }
  return list.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

// False if the text is not what PlacementToText makes.
bool PlacementFromText(const std::string& text, std::vector<NodePlacement>& placement) {
  const json list = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return false;
  for (const json& node : list) {
    if (!node.is_object() || !node.contains("node") || !node.contains("slots")) return false;
    placement.push_back({node["node"], static_cast<v1::DeviceKind>(node.value("device", 0)), node["slots"]});
  }
  return true;
}

bool WorkersFromText(const std::string& text, std::vector<WorkerProcess>& workers) {
  const json list = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return false;
  for (const json& worker : list) {
    if (!worker.is_object()) return false;
    workers.push_back({worker.value("host", ""), worker.value("pid", int64_t{0}),
                       worker.value("pid_start_time", uint64_t{0}), worker.value("reference", "")});
  }
  return true;
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the state database holds a ", what, " that cannot be read"));
}

absl::Status WriteJob(sqlite3* connection, const JobRecord& record) {
  Statement statement(connection,
                      "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
                      "sequence=excluded.sequence, name=excluded.name, state=excluded.state, device=excluded.device, "
                      "nodes=excluded.nodes, slots_per_node=excluded.slots_per_node, not_before=excluded.not_before, "
                      "stop_deadline=excluded.stop_deadline, stop_grace=excluded.stop_grace, "
                      "run_time=excluded.run_time, job=excluded.job");
  statement.Bind(record.job.id(), record.sequence, record.job.name(), StateName(record.job.state()),
                 static_cast<int>(record.demand.device), record.demand.nodes, record.demand.slots_per_node,
                 ToMicros(record.not_before), ToMicros(record.stop_deadline),
                 absl::ToInt64Microseconds(record.stop_grace), absl::ToInt64Microseconds(record.run_time));
  return statement.BindBlob(12, record.job.SerializeAsString()).Run();
}

absl::Status WriteAttempt(sqlite3* connection, const AttemptRecord& attempt) {
  RETURN_IF_ERROR(
      Statement(connection, "INSERT OR REPLACE INTO attempts VALUES (?,?,?,?,?,?,?,?,?,?)")
          .Bind(attempt.job_id, attempt.number, PlacementToText(attempt.placement), WorkersToText(attempt.workers),
                ToMicros(attempt.launch_time), ToMicros(attempt.running_time), ToMicros(attempt.end_time),
                static_cast<int>(attempt.cause.reason), static_cast<int>(attempt.cause.blame), attempt.cause.message)
          .Run());
  if (attempt.token.empty()) {
    return Statement(connection, "DELETE FROM tokens WHERE job_id=? AND attempt=?")
        .Bind(attempt.job_id, attempt.number)
        .Run();
  }
  return Statement(connection, "INSERT OR REPLACE INTO tokens VALUES (?,?,?)")
      .Bind(attempt.job_id, attempt.number, attempt.token)
      .Run();
}

absl::Status WriteEvent(sqlite3* connection, const StateEvent& event) {
  return Statement(connection, "INSERT INTO events VALUES (?,?,?,?,?,?,?,?)")
      .Bind(event.job_id, event.number, ToMicros(event.time), event.attempt, static_cast<int>(event.state),
            static_cast<int>(event.cause.reason), static_cast<int>(event.cause.blame), event.cause.message)
      .Run();
}

absl::Status WriteCheckpoint(sqlite3* connection, const CheckpointRecord& record) {
  return Statement(connection, "INSERT OR REPLACE INTO checkpoints VALUES (?,?,?,?,?,?,?)")
      .Bind(record.job_id, record.checkpoint.step(), record.is_export ? 1 : 0, record.checkpoint.attempt(),
            record.checkpoint.path(), record.checkpoint.size_bytes(),
            TimeUtil::TimestampToMicroseconds(record.checkpoint.create_time()))
      .Run();
}

absl::Status ReadJobs(sqlite3* connection, std::vector<JobRecord>& jobs) {
  Statement rows(
      connection,
      "SELECT sequence, device, nodes, slots_per_node, not_before, stop_deadline, stop_grace, run_time, job, "
      "id FROM jobs ORDER BY sequence");
  while (true) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    JobRecord& record = jobs.emplace_back();
    record.sequence = rows.Integer(0);
    record.demand = {static_cast<v1::DeviceKind>(rows.Integer(1)), static_cast<int>(rows.Integer(2)),
                     static_cast<int>(rows.Integer(3))};
    record.not_before = FromMicros(rows.Integer(4));
    record.stop_deadline = FromMicros(rows.Integer(5));
    record.stop_grace = absl::Microseconds(rows.Integer(6));
    record.run_time = absl::Microseconds(rows.Integer(7));
    if (!record.job.ParseFromString(rows.Text(8))) return Damaged(absl::StrCat("job (", rows.Text(9), ")"));
  }
}

absl::Status ReadAttempts(sqlite3* connection, std::vector<AttemptRecord>& attempts) {
  Statement rows(connection,
                 "SELECT a.job_id, a.number, placement, workers, launch_time, running_time, end_time, reason, blame, "
                 "message, COALESCE(token, '') FROM attempts a LEFT JOIN tokens t ON t.job_id=a.job_id AND "
                 "t.attempt=a.number ORDER BY a.job_id, a.number");
  while (true) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    AttemptRecord& attempt = attempts.emplace_back();
    attempt.job_id = rows.Text(0);
    attempt.number = static_cast<int>(rows.Integer(1));
    if (!PlacementFromText(rows.Text(2), attempt.placement) || !WorkersFromText(rows.Text(3), attempt.workers) ||
        attempt.workers.size() != attempt.placement.size()) {
      return Damaged(absl::StrCat("attempt (", attempt.job_id, ", ", attempt.number, ")"));
    }
    attempt.launch_time = FromMicros(rows.Integer(4));
    attempt.running_time = FromMicros(rows.Integer(5));
    attempt.end_time = FromMicros(rows.Integer(6));
    attempt.cause = {static_cast<v1::JobReason>(rows.Integer(7)), static_cast<v1::Blame>(rows.Integer(8)),
                     rows.Text(9)};
    attempt.token = rows.Text(10);
  }
}

absl::Status ReadEvents(sqlite3* connection, std::vector<StateEvent>& events) {
  Statement rows(connection,
                 "SELECT job_id, number, time, attempt, state, reason, blame, message FROM events ORDER BY job_id, "
                 "number");
  while (true) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    events.push_back(
        {rows.Text(0),
         rows.Integer(1),
         FromMicros(rows.Integer(2)),
         static_cast<int>(rows.Integer(3)),
         static_cast<v1::JobState>(rows.Integer(4)),
         {static_cast<v1::JobReason>(rows.Integer(5)), static_cast<v1::Blame>(rows.Integer(6)), rows.Text(7)}});
  }
}

absl::Status ReadCheckpoints(sqlite3* connection, std::vector<CheckpointRecord>& checkpoints) {
  Statement rows(connection,
                 "SELECT job_id, step, is_export, attempt, path, size_bytes, create_time FROM checkpoints ORDER BY "
                 "job_id, create_time, step");
  while (true) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    CheckpointRecord& record = checkpoints.emplace_back();
    record.job_id = rows.Text(0);
    record.checkpoint.set_step(rows.Integer(1));
    record.is_export = rows.Integer(2) != 0;
    record.checkpoint.set_attempt(static_cast<int>(rows.Integer(3)));
    record.checkpoint.set_path(rows.Text(4));
    record.checkpoint.set_size_bytes(rows.Integer(5));
    *record.checkpoint.mutable_create_time() = TimeUtil::MicrosecondsToTimestamp(rows.Integer(6));
  }
}

absl::Status ReadRequestKeys(sqlite3* connection, std::vector<RequestKey>& keys) {
  Statement rows(connection, "SELECT owner, request_id, job_id FROM request_keys");
  while (true) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return absl::OkStatus();
    keys.push_back({rows.Text(0), rows.Text(1), rows.Text(2)});
  }
}

}  // namespace

absl::Status PrepareTables(sqlite3* connection) {
  {
    Statement check(connection, "PRAGMA quick_check(1)");
    ASSIGN_OR_RETURN(const bool row, check.Step());
    if (!row || check.Text(0) != "ok") {
      return absl::DataLossError(absl::StrCat("the state database is damaged: ", row ? check.Text(0) : ""));
    }
  }
  int64_t version = 0;
  {
    Statement query(connection, "PRAGMA user_version");
    RETURN_IF_ERROR(query.Step().status());
    version = query.Integer(0);
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the state database has version ", version,
                                                      ", made by a newer ithacad; this one knows ", kSchemaVersion));
  }
  if (version == kSchemaVersion) return absl::OkStatus();
  return Execute(connection,
                 absl::StrCat("BEGIN IMMEDIATE;", kSchema, "PRAGMA user_version=", kSchemaVersion, ";COMMIT;"));
}

absl::Status WriteRows(sqlite3* connection, const WriteBatch& batch) {
  for (const JobRecord& job : batch.jobs) RETURN_IF_ERROR(WriteJob(connection, job));
  for (const AttemptRecord& attempt : batch.attempts) RETURN_IF_ERROR(WriteAttempt(connection, attempt));
  for (const StateEvent& event : batch.events) RETURN_IF_ERROR(WriteEvent(connection, event));
  for (const CheckpointRecord& record : batch.checkpoints) RETURN_IF_ERROR(WriteCheckpoint(connection, record));
  for (const RequestKey& key : batch.request_keys) {
    RETURN_IF_ERROR(Statement(connection, "INSERT INTO request_keys VALUES (?,?,?)")
                        .Bind(key.owner, key.request_id, key.job_id)
                        .Run());
  }
  for (const std::string& id : batch.deleted_jobs) {
    RETURN_IF_ERROR(Statement(connection, "DELETE FROM jobs WHERE id=?").Bind(id).Run());
  }
  return absl::OkStatus();
}

absl::StatusOr<StoreContents> ReadRows(sqlite3* connection) {
  StoreContents contents;
  RETURN_IF_ERROR(ReadJobs(connection, contents.jobs));
  RETURN_IF_ERROR(ReadAttempts(connection, contents.attempts));
  RETURN_IF_ERROR(ReadEvents(connection, contents.events));
  RETURN_IF_ERROR(ReadCheckpoints(connection, contents.checkpoints));
  RETURN_IF_ERROR(ReadRequestKeys(connection, contents.request_keys));
  return contents;
}

}  // namespace ithaca
