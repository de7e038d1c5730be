#include "client/client.h"

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "proto/errors.h"
#include "proto/grpc_status.h"
#include "proto/message_limits.h"
#include "proto/status_macros.h"

namespace ithaca::client {
namespace {

constexpr char kDraining[] = "DRAINING";
constexpr std::chrono::seconds kCallDeadline(30);
constexpr std::chrono::minutes kReconnectDeadline(5);
constexpr std::chrono::milliseconds kReconnectPause(200);  // while a coordinator goes down, it still answers

// Reads a PEM file; no path: nothing.
absl::Status ReadPem(const std::string& path, std::string& text) {
  if (path.empty()) return absl::OkStatus();
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  text = content.str();
  if (text.find("-----BEGIN") != std::string::npos) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(path, " cannot be read or is not a PEM file"));
}

}  // namespace

ExitCode ExitCodeOf(const absl::Status& status) {
  if (ReasonOf(status) == "DOES_NOT_FIT") return ExitCode::kDoesNotFit;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kInvalidJob;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kUnavailable:
      return ReasonOf(status).empty() || ReasonOf(status) == kDraining ? ExitCode::kUnreachable : ExitCode::kError;
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return ExitCode::kRefused;
    default:
      return ExitCode::kError;
  }
}

std::string ErrorText(const absl::Status& status, const std::string& server) {
  const std::string message(status.message());
  if (absl::IsUnavailable(status) && ReasonOf(status).empty()) {
    // gRPC tells the story of every address tried; its last clause is the cause.
    const size_t cause = message.rfind(": ");
    return absl::StrCat("the coordinator at ", server, " cannot be reached (",
                        cause == std::string::npos ? message : message.substr(cause + 2),
                        "); is ithacad running there?");
  }
  if (absl::IsDeadlineExceeded(status)) return absl::StrCat("the coordinator at ", server, " did not answer in time");
  if (absl::IsUnimplemented(status)) {
    return absl::StrCat("the coordinator at ", server,
                        " does not do this: ", message.empty() ? "it knows no such call" : message);
  }
  const FieldMistakes mistakes = MistakesOf(status);
  if (mistakes.empty()) return message;
  std::string text = absl::StrCat("the coordinator refused the job: ", message.substr(0, message.find(':')));
  for (const FieldMistake& mistake : mistakes) absl::StrAppend(&text, "\n  ", ToString(mistake));
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const TlsFiles& files) {
  if (files.ca.empty() && files.cert.empty() && files.key.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions tls;
  RETURN_IF_ERROR(ReadPem(files.ca, tls.pem_root_certs));
  RETURN_IF_ERROR(ReadPem(files.cert, tls.pem_cert_chain));
  RETURN_IF_ERROR(ReadPem(files.key, tls.pem_private_key));
  return grpc::SslCredentials(tls);
}

Client::Client(std::string server, std::shared_ptr<grpc::ChannelCredentials> credentials, OutputFormat output,
               Terminal& terminal)
    : server_(std::move(server)), output_(output), terminal_(terminal) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60 * 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(server_, credentials, arguments);
  stub_ = v1::JobService::NewStub(channel_);
}

absl::StatusOr<std::string> Client::ResolveJobId(const std::string& job) {
  if (job != "latest") return job;
  v1::ListJobsRequest request;
  request.set_page_size(1);
  ASSIGN_OR_RETURN(const v1::ListJobsResponse response, Call(&v1::JobService::Stub::ListJobs, request));
  if (response.jobs().empty()) return absl::NotFoundError("there is no job yet");
  return response.jobs(0).id();
}

void Client::SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kCallDeadline);
}

absl::Status Client::Translate(const grpc::Status& status) { return FromGrpcStatus(status); }

bool Client::Connect() {
  const auto deadline = std::chrono::system_clock::now() + kCallDeadline;
  grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
  while (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING) {
    if (!channel_->WaitForStateChange(state, deadline)) return false;
    state = channel_->GetState(/*try_to_connect=*/true);
  }
  return state == GRPC_CHANNEL_READY;
}

bool Client::IsInterruption(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return ReasonOf(status).empty() || ReasonOf(status) == kDraining;
  return absl::IsCancelled(status);
}

bool Client::WaitForServer() {
  terminal_.err << "lost the coordinator at " << server_ << "; waiting for it to come back" << std::endl;
  std::this_thread::sleep_for(kReconnectPause);
  return channel_->WaitForConnected(std::chrono::system_clock::now() + kReconnectDeadline);
}

}  // namespace ithaca::client
