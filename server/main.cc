// ithacad: the coordinator. Flags -> options -> start -> wait -> drain.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "server/coordinator.h"

namespace {

namespace fs = std::filesystem;

// What ithacad exits with; see --help.
constexpr int kCannotStart = 1;
constexpr int kBadOptions = 2;

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

fs::path BesideThisProgram(const char* name) {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path() / name;
}

sigset_t BlockStopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return set;
}

}  // namespace

int main(int argc, char** argv) {
  ::umask(0077);  // tokens, job files and logs are the owner's; workers and engines inherit it
  // Its own words about a port in use say less than ours.
  ::setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  ithaca::CoordinatorOptions options;
  options.host = HostName();
  options.worker_path = BesideThisProgram("ithaca-worker");
  options.engine_path = BesideThisProgram("ithaca-engine");
  std::string listen = "127.0.0.1:7070", http = "127.0.0.1:9090";

  CLI::App app("Ithaca's coordinator: takes jobs over gRPC, runs them, publishes what they report.");
  app.footer(
      "Ends on SIGTERM or SIGINT; training goes on and is taken up by the next coordinator on the same state.\n"
      "Exit codes: 0 drained, 1 a port or the state directory cannot be had, 2 the options are refused.");
  app.add_option("--state-dir", options.state_directory, "Directory of all that is remembered; made if missing")
      ->required();
  app.add_option("--listen", listen, "gRPC address; port 0 takes a free one")->capture_default_str();
  app.add_option("--http", http, "Address of /metrics and the status page")->capture_default_str();
  app.add_option("--cpu-slots", options.cpu_slots,
                 "Ranks that may run on this machine's CPU at once; default 1 without a GPU");
  app.add_option("--engine-path", options.engine_path, "ithaca-engine; default: beside ithacad");
  app.add_option("--worker-path", options.worker_path, "ithaca-worker; default: beside ithacad");
  app.add_option("--host", options.host, "Name of this machine")->capture_default_str();
  app.add_option("--tls-cert", options.tls_cert_path, "PEM certificate of the gRPC port");
  app.add_option("--tls-key", options.tls_key_path, "PEM key of the gRPC port");
  app.add_option("--tls-client-ca", options.tls_client_ca_path,
                 "PEM certificates; callers must show one signed by these");
  app.add_flag("--insecure-listen", options.insecure_listen,
               "Allow a --listen address that other machines can reach without TLS");
  app.add_flag("--insecure-http", options.insecure_http, "Allow an --http address that other machines can reach");
  CLI11_PARSE(app, argc, argv);

  const auto refuse = [](const absl::Status& status) {
    std::cerr << "ithacad: " << status.message() << std::endl;
    return absl::IsUnavailable(status) ? kCannotStart : kBadOptions;
  };
  const absl::StatusOr<ithaca::ListenAddress> grpc_address = ithaca::ParseListenAddress(listen);
  const absl::StatusOr<ithaca::ListenAddress> http_address = ithaca::ParseListenAddress(http);
  if (!grpc_address.ok()) return refuse(grpc_address.status());
  if (!http_address.ok()) return refuse(http_address.status());
  options.listen = *grpc_address;
  options.http = *http_address;
  options.state_directory = fs::absolute(options.state_directory);

  const sigset_t stop_signals = BlockStopSignals();
  const auto coordinator = ithaca::Coordinator::Start(options);
  if (!coordinator.ok()) return refuse(coordinator.status());
  std::cout << "ithacad listening grpc=" << (*coordinator)->grpc_address() << " http=" << (*coordinator)->http_address()
            << std::endl;
  int signal_number = 0;
  ::sigwait(&stop_signals, &signal_number);
  std::cout << "ithacad draining: training goes on" << std::endl;
  return 0;
}
