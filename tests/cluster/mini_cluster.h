#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ithaca/v1/job_service.grpc.pb.h"
#include "tests/fakes/temporary_directory.h"

namespace ithaca::cluster {

// How a program ended, and what it wrote.
struct Ended {
  int exit_code = -1;  // -1: by a signal
  std::string output;
};

// A coordinator with its workers and engines as real processes, on free ports and in a directory of its own. The test
// may end the coordinator, well or badly, and start it again on the same state and ports. The destructor kills every
// process that was started here, and only those: they are known by the directory's name on their command line.
class MiniCluster {
 public:
  struct Options {
    int cpu_slots = 2;
    std::string engine = FAKE_ENGINE;
    std::vector<std::string> flags;  // more for ithacad
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  };
  MiniCluster() : MiniCluster(Options{}) {}
  explicit MiniCluster(Options options);
  ~MiniCluster();

  // Starts ithacad and waits until it listens and answers.
  void Start();
  // SIGTERM, and the exit code.
  int Terminate();
  // SIGKILL.
  void Kill();
  // Runs ithacad with these flags beside --state-dir (this cluster's unless given) to its end.
  Ended RunToEnd(std::vector<std::string> flags, const std::string& state_directory = "");

  v1::JobService::Stub& jobs() { return *stub_; }
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_address_; }
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

  // A job of `ranks` ranks and `steps` steps whose engines play `script`.
  v1::JobSpec FakeJob(const std::string& name, int ranks, int steps, const nlohmann::json& script);
  std::string Submit(const v1::JobSpec& spec);
  v1::Job Get(const std::string& id);
  // Without `grace_seconds`, the service's own default.
  grpc::Status Cancel(const std::string& id, std::optional<int> grace_seconds = std::nullopt);
  // Waits for the state; false when it does not come, or a terminal one comes instead.
  bool WaitForState(const std::string& id, v1::JobState state);
  // Every step that StreamMetrics gives of the job, in order.
  std::vector<int64_t> Steps(const std::string& id);
  // Every state the job was in, in order.
  std::vector<v1::JobState> States(const std::string& id);
  // The body of a page of the HTTP port.
  std::string Fetch(const std::string& page);

  // Processes of this cluster by the program's name: "ithaca-worker", "fake-engine". Not zombies.
  std::vector<pid_t> Processes(const std::string& program) const;
  // The worker whose engines run the job.
  std::optional<pid_t> WorkerOf(const std::string& job_id) const;

 private:
  const Options options_;
  fakes::TemporaryDirectory directory_;
  int starts_ = 0;
  pid_t pid_ = 0;
  std::string grpc_address_ = "127.0.0.1:0", http_address_ = "127.0.0.1:0";
  std::unique_ptr<v1::JobService::Stub> stub_;
};

}  // namespace ithaca::cluster
