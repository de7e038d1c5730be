// ithaca-worker: runs the engines of one job attempt on one host, and keeps the coordinator informed.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "worker/agent/agent.h"

namespace {

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs the engines of one attempt of a job on this host. Started by a launcher, not by hand.");
  ithaca::AgentOptions options;
  std::string token_file;
  double peer_grace = 10, stop_grace = 30, linger = 24 * 3600;
  options.host = HostName();
  app.add_option("--coordinator", options.coordinator, "Where the coordinator listens: host:port or unix:/path")
      ->required();
  app.add_option("--job", options.job_id, "Id of the job")->required();
  app.add_option("--attempt", options.attempt, "Number of the attempt, from 1")->required();
  app.add_option("--token-file", token_file, "File that holds the attempt's token")->required();
  app.add_option("--engine", options.engine, "Path of ithaca-engine")->required();
  app.add_option("--work-dir", options.work_directory, "Existing directory for run.json, spool, logs and the result")
      ->required();
  app.add_option("--host", options.host, "Name of this host, as its peers can reach it")->capture_default_str();
  app.add_option("--tls-ca", options.tls_ca_path, "PEM file of certificates to trust; turns TLS on");
  app.add_option("--peer-grace", peer_grace, "Seconds the other ranks get after one has failed")->capture_default_str();
  app.add_option("--stop-grace", stop_grace, "Seconds engines get to save when this process is told to end")
      ->capture_default_str();
  app.add_option("--linger", linger, "Seconds to wait for a coordinator once the engines have ended")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::ifstream(token_file) >> options.token;
  if (options.token.empty()) {
    std::cerr << "ithaca-worker: no token in " << token_file << std::endl;
    return 2;
  }
  options.work_directory = std::filesystem::absolute(options.work_directory);
  options.peer_grace = absl::Seconds(peer_grace);
  options.stop_grace = absl::Seconds(stop_grace);
  options.linger = absl::Seconds(linger);
  const absl::Status status = ithaca::Agent(options).Run();
  if (status.ok()) return 0;
  std::cerr << "ithaca-worker: " << status.message() << std::endl;
  return 1;
}
