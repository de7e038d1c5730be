#include "server/core/records.h"

namespace ithaca {

bool SameCheckpoint(const CheckpointRecord& a, const CheckpointRecord& b) {
  return a.job_id == b.job_id && a.is_export == b.is_export && a.checkpoint.step() == b.checkpoint.step() &&
         a.checkpoint.attempt() == b.checkpoint.attempt();
}

}  // namespace ithaca
