#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "ithaca/v1/job_service.grpc.pb.h"

namespace ithaca::client {

enum class OutputFormat { kTable, kJson, kYaml };

// Where output goes and how it may look.
struct Terminal {
  std::ostream& out;
  std::ostream& err;
  bool interactive = false;  // `out` is a terminal: watch may redraw
  int columns = 100;
};

// PEM files of a connection with TLS; all empty: without.
struct TlsFiles {
  std::string ca;         // certificates to trust; empty: those of the system
  std::string cert, key;  // what this side shows; both or none
};

// NOT_FOUND if a file cannot be read or holds no PEM.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const TlsFiles& files);

// The coordinator as the verbs see it: a channel, and calls that turn gRPC's answers into absl::Status. Owned by the
// command line for one verb; used by one thread.
class Client {
 public:
  // Connects lazily: an unreachable server shows as UNAVAILABLE in the first call.
  Client(std::string server, std::shared_ptr<grpc::ChannelCredentials> credentials, OutputFormat output,
         Terminal& terminal);

  const std::string& server() const { return server_; }
  OutputFormat output() const { return output_; }
  Terminal& terminal() { return terminal_; }
  v1::JobService::Stub& stub() { return *stub_; }

  // One unary call with a deadline: Call(&v1::JobService::Stub::GetJob, request).
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                             Response*),
                                const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    Response response;
    const absl::Status status = Translate((stub().*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // Reads a server stream to its end and hands every message to `receive`. When a coordinator that was there goes away,
  // waits for it to come back and goes on at the cursor. An error that it answered with is final.
  template <typename Request, typename Response, typename Receive>
  absl::Status Follow(std::unique_ptr<grpc::ClientReader<Response>> (v1::JobService::Stub::*method)(
                          grpc::ClientContext*, const Request&),
                      Request request, Receive receive) {
    bool reached = false;
    while (true) {
      reached = Connect() || reached;
      grpc::ClientContext context;
      auto reader = (stub().*method)(&context, request);
      Response response;
      while (reader->Read(&response)) {
        request.set_cursor(response.cursor());
        receive(response);
      }
      const absl::Status status = Translate(reader->Finish());
      if (!reached || !IsInterruption(status) || !WaitForServer()) return status;
    }
  }

  // The id a user means: itself, or for "latest" that of the newest job.
  absl::StatusOr<std::string> ResolveJobId(const std::string& job);

 private:
  static void SetDeadline(grpc::ClientContext& context);
  static absl::Status Translate(const grpc::Status& status);
  // Whether the coordinator can be reached: connects unless that is done, and gives up at the first failure.
  bool Connect();
  // The stream was cut, not answered: the connection is lost, or the coordinator is going down. Nothing here cancels.
  static bool IsInterruption(const absl::Status& status);
  // Says so and waits, at most a few minutes. False: it did not come back.
  bool WaitForServer();

  const std::string server_;
  const OutputFormat output_;
  Terminal& terminal_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::JobService::Stub> stub_;
};

// What a user reads when a verb fails: one sentence, or one line for every mistake.
std::string ErrorText(const absl::Status& status, const std::string& server);

}  // namespace ithaca::client
