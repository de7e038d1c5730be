#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

class CivetServer;

namespace ithaca {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// What a path answers to a GET. Called from the server's threads, several at once.
using HttpPage = std::function<HttpResponse()>;

// The coordinator's HTTP port: a few pages made on request, GET and HEAD only, by CivetWeb (which comes with
// prometheus-cpp; its Exposer serves nothing but metrics). Owned by main; has threads of its own, which the destructor
// joins. What the pages refer to outlives it.
class HttpServer {
 public:
  // Listens on "host:port"; port 0 takes a free one. UNAVAILABLE with one sentence when the address cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           std::map<std::string, HttpPage> pages);
  ~HttpServer();

  // "host:port" with the port that was taken.
  const std::string& address() const { return address_; }

 private:
  class Handler;
  HttpServer();

  std::string address_;
  std::unique_ptr<Handler> handler_;
  std::unique_ptr<CivetServer> server_;
};

}  // namespace ithaca
