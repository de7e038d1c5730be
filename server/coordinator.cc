#include "server/coordinator.h"

#include <unistd.h>

#include <atomic>
#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/status_macros.h"
#include "server/core/clock.h"
#include "server/core/history.h"
#include "server/core/job_table.h"
#include "server/core/reconciler.h"
#include "server/core/registry.h"
#include "server/core/worker_hub.h"
#include "server/launcher/local/local_launcher.h"
#include "server/launcher/local/local_node.h"
#include "server/metrics/http_server.h"
#include "server/metrics/metrics_page.h"
#include "server/metrics/status_page.h"
#include "server/metrics/status_source.h"
#include "server/rpc/rpc_server.h"
#include "server/state_lock.h"
#include "server/store/disk_attempt_files.h"
#include "server/store/sqlite_store.h"

#ifndef ITHACA_VERSION
#define ITHACA_VERSION "unknown"
#endif

namespace ithaca {
namespace {

constexpr absl::Duration kSeriesHold = absl::Minutes(5);
// Streams end within a fifth of a second; the rest is for calls that wait for the disk.
constexpr absl::Duration kDrainPatience = absl::Seconds(1);
// A path that is longer does not fit a unix socket's address; workers then use the TCP port, without TLS.
constexpr size_t kMaxSocketPath = 100;

// Path of the workers' socket; empty if it is too long for one.
std::string WorkerSocket(const CoordinatorOptions& options) {
  const std::string path = options.state_directory / "workers.sock";
  return path.size() <= kMaxSocketPath ? path : "";
}

absl::Status CheckOptions(const CoordinatorOptions& options) {
  const bool has_tls = !options.tls_cert_path.empty();
  RETURN_IF_ERROR(CheckGrpcExposure(options.listen, has_tls, options.insecure_listen));
  RETURN_IF_ERROR(CheckHttpExposure(options.http, options.insecure_http));
  if (has_tls && WorkerSocket(options).empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("With TLS the workers of this machine need a unix socket, whose path may have ", kMaxSocketPath,
                     " characters: give a --state-dir shorter than ", options.state_directory.string(), "."));
  }
  for (const std::filesystem::path& program : {options.worker_path, options.engine_path}) {
    if (::access(program.c_str(), X_OK) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("There is no program ", program.string(), ": give --worker-path and --engine-path."));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// All there is, in the order of lifetimes.
struct Coordinator::Parts {
  Parts(StateLock lock_taken, std::unique_ptr<Store> opened, const CoordinatorOptions& options)
      : lock(std::move(lock_taken)),
        store(std::move(opened)),
        files(options.state_directory),
        table(*store, files, Clock::Real(), {DescribeLocalNode(options.host, options.cpu_slots)}),
        registry(table, files, Clock::Real()),
        history(table, files),
        hub(table, files, Clock::Real()),
        metrics(table, kSeriesHold, ITHACA_VERSION),
        status(table, history, Clock::Real(), ITHACA_VERSION) {}

  ~Parts() {
    rpc.reset();
    stopping = true;
    table.Wake();
    if (reconciling.joinable()) reconciling.join();
  }

  void Reconcile() {
    while (!stopping) {
      const absl::Time next = reconciler->Tick();
      if (!reconciler->last_error().ok()) std::cerr << "ithacad: " << reconciler->last_error() << std::endl;
      table.WaitForWake(next);
    }
  }

  StateLock lock;
  std::unique_ptr<Store> store;
  DiskAttemptFiles files;
  JobTable table;
  Registry registry;
  History history;
  WorkerHub hub;
  MetricsPage metrics;
  StatusSource status;
  std::unique_ptr<LocalLauncher> launcher;
  std::unique_ptr<Reconciler> reconciler;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<RpcServer> rpc;
  std::atomic<bool> stopping = false;
  std::thread reconciling;
};

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const CoordinatorOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(StateLock lock, StateLock::Take(options.state_directory));
  ASSIGN_OR_RETURN(std::unique_ptr<Store> store, SqliteStore::Open(options.state_directory / "state.db"));
  auto parts = std::make_unique<Parts>(std::move(lock), std::move(store), options);
  RETURN_IF_ERROR(parts->table.Recover());

  const std::string socket = WorkerSocket(options);
  Parts& all = *parts;
  const RpcObserver observer = [&all](const RpcEnd& end) {
    all.metrics.CountRpc(end.service, end.method, end.code, end.unary, end.duration);
  };
  ASSIGN_OR_RETURN(parts->rpc, RpcServer::Start({options.listen, socket, options.tls_cert_path, options.tls_key_path,
                                                 options.tls_client_ca_path},
                                                {parts->table, parts->registry, parts->history, parts->hub}, observer));
  const HttpPage metrics = [&all] {
    return HttpResponse{200, "text/plain; version=0.0.4; charset=utf-8", all.metrics.Text()};
  };
  const HttpPage status = [&all] {
    return HttpResponse{200, "text/html; charset=utf-8", RenderStatusPage(all.status.View())};
  };
  const HttpPage health = [] { return HttpResponse{200, "text/plain; charset=utf-8", "ok\n"}; };
  ASSIGN_OR_RETURN(parts->http, HttpServer::Start(options.http.ToString(),
                                                  {{"/", status}, {"/metrics", metrics}, {"/healthz", health}}));

  LocalLauncher::Options launch{options.worker_path, options.engine_path,
                                socket.empty() ? parts->rpc->address() : absl::StrCat("unix:", socket), options.host,
                                /*tls_ca_path=*/""};
  parts->launcher = std::make_unique<LocalLauncher>(std::move(launch), [&all] { all.table.Wake(); });
  parts->reconciler =
      std::make_unique<Reconciler>(parts->table, parts->files, *parts->launcher, Clock::Real(), Reconciler::Options{});
  parts->reconciling = std::thread([&all] { all.Reconcile(); });
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(parts)));
}

Coordinator::Coordinator(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Coordinator::~Coordinator() {
  // Both take a second or two to end, so they do it side by side.
  std::thread close_http([this] { parts_->http.reset(); });
  parts_->rpc->Drain(kDrainPatience);
  close_http.join();
}

std::string Coordinator::grpc_address() const { return parts_->rpc->address(); }
std::string Coordinator::http_address() const { return parts_->http->address(); }

}  // namespace ithaca
