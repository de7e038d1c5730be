#pragma once

#include <sqlite3.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/store.h"

namespace ithaca {

// The tables, and records as their rows. Times are microseconds since 1970, infinite ones the ends of the range.

// Makes or migrates the tables. FAILED_PRECONDITION: a newer version made them; DATA_LOSS: the file is damaged.
absl::Status PrepareTables(sqlite3* connection);

// Writes the batch's rows within the transaction that is open.
absl::Status WriteRows(sqlite3* connection, const WriteBatch& batch);

absl::StatusOr<StoreContents> ReadRows(sqlite3* connection);

}  // namespace ithaca
