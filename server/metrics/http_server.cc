#include "server/metrics/http_server.h"

#include <CivetServer.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ithaca {

class HttpServer::Handler : public CivetHandler {
 public:
  explicit Handler(std::map<std::string, HttpPage> pages) : pages_(std::move(pages)) {}

  bool handleGet(CivetServer*, mg_connection* connection) override { return Answer(connection, true); }
  bool handleHead(CivetServer*, mg_connection* connection) override { return Answer(connection, false); }
  bool handlePost(CivetServer*, mg_connection* connection) override { return RefuseMethod(connection); }
  bool handlePut(CivetServer*, mg_connection* connection) override { return RefuseMethod(connection); }
  bool handleDelete(CivetServer*, mg_connection* connection) override { return RefuseMethod(connection); }
  bool handlePatch(CivetServer*, mg_connection* connection) override { return RefuseMethod(connection); }

 private:
  static void Send(mg_connection* connection, const HttpResponse& response, bool with_body) {
    const std::string head = absl::StrCat(
        "HTTP/1.1 ", response.status, " ", mg_get_response_code_text(connection, response.status),
        "\r\nContent-Type: ", response.content_type, "\r\nContent-Length: ", response.body.size(),
        "\r\nConnection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY"
        "\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:\r\n\r\n");
    mg_write(connection, head.data(), head.size());
    if (with_body) mg_write(connection, response.body.data(), response.body.size());
  }

  bool Answer(mg_connection* connection, bool with_body) {
    const mg_request_info* request = mg_get_request_info(connection);
    const auto page = pages_.find(request->local_uri == nullptr ? "" : request->local_uri);
    if (page == pages_.end()) {
      Send(connection, {404, "text/plain; charset=utf-8", "There is no such page.\n"}, with_body);
    } else {
      Send(connection, page->second(), with_body);
    }
    return true;
  }

  static bool RefuseMethod(mg_connection* connection) {
    Send(connection, {405, "text/plain; charset=utf-8", "Only GET and HEAD are served here.\n"}, true);
    return true;
  }

  const std::map<std::string, HttpPage> pages_;
};

HttpServer::HttpServer() = default;
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              std::map<std::string, HttpPage> pages) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is not an HTTP address of the form host:port."));
  }
  std::string host = address.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  std::unique_ptr<HttpServer> http(new HttpServer());
  http->handler_ = std::make_unique<Handler>(std::move(pages));
  CivetCallbacks callbacks;
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };
  const std::vector<std::string> options = {"listening_ports",
                                            absl::StrCat(host, address.substr(colon)),
                                            "num_threads",
                                            "4",
                                            "request_timeout_ms",
                                            "10000",
                                            "enable_directory_listing",
                                            "no"};
  try {
    http->server_ = std::make_unique<CivetServer>(options, &callbacks);
  } catch (const CivetException&) {
    return absl::UnavailableError(absl::StrCat("Cannot listen for HTTP on ", address,
                                               ": the port is in use or the address is not one of this machine's."));
  }
  http->server_->addHandler("/", *http->handler_);
  http->address_ = absl::StrCat(address.substr(0, colon), ":", http->server_->getListeningPorts().front());
  return http;
}

}  // namespace ithaca
