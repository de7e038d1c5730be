// Commits jobs to a store from several threads until it is killed or fails, and prints each id once its commit has been
// acknowledged: store_committer DATABASE [LARGEST_FILE_BYTES]. The end of a failing store is printed as "error CODE
// MESSAGE".
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/store/sqlite_store.h"

namespace {

constexpr int kThreads = 4;

ithaca::WriteBatch BatchOf(int number) {
  ithaca::WriteBatch batch;
  ithaca::JobRecord record;
  record.job.set_id(absl::StrCat("j", number));
  record.job.set_state(ithaca::v1::JOB_STATE_QUEUED);
  record.job.set_message(std::string(2000, 'x'));
  record.sequence = number;
  batch.jobs.push_back(record);
  batch.request_keys.push_back({"", absl::StrCat("r", number), record.job.id()});
  return batch;
}

void Say(const std::string& line) {
  if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(3);  // one write: whole lines from all threads
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (argc > 2) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlim_t bytes = std::strtoul(argv[2], nullptr, 10);
    const rlimit limit{bytes, bytes};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
  }
  const auto store = ithaca::SqliteStore::Open(argv[1]);
  if (!store.ok()) {
    std::cerr << store.status() << "\n";
    return 2;
  }
  std::atomic<int> next = 1;
  std::atomic<bool> failed = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (!failed) {
        const int number = next++;
        const absl::Status status = (*store)->Commit(BatchOf(number));
        if (status.ok()) {
          Say(absl::StrCat("j", number, "\n"));
        } else {
          failed = true;
          Say(absl::StrCat("error ", static_cast<int>(status.code()), " ", std::string(status.message()), "\n"));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return 1;
}
