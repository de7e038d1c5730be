#include "client/command_line.h"

#include <CLI/CLI.hpp>
#include <functional>

#include "client/help.h"
#include "client/verbs.h"
#include "proto/field_names.h"
#include "proto/status_macros.h"

namespace ithaca::client {
namespace {

using Outcome = absl::StatusOr<ExitCode>;

// The options of all verbs, and what to do once they are parsed. Lives as long as the CLI::App that points into it.
class CommandLine {
 public:
  CommandLine(std::string server, Terminal& terminal)
      : terminal_(terminal), server_(std::move(server)), app_(help::kSummary, "ithaca") {
    app_.footer(help::kFooter);
    app_.require_subcommand(0, 1);
    app_.get_formatter()->column_width(34);
    app_.set_version_flag("--version", "ithaca " ITHACA_VERSION);
    AddSubmit();
    AddEstimate();
    AddList();
    AddJobVerb("get", "Show one job: state and why, progress, checkpoints, ranks", help::kGet, true,
               [this](Client& client) { return Get(client, job_); });
    AddJobVerb("watch", "Follow a job until it is over", help::kWatch, true,
               [this](Client& client) { return Watch(client, job_); });
    AddLogs();
    AddJobVerb("events", "List what happened to a job", help::kEvents, true,
               [this](Client& client) { return Events(client, job_); });
    AddMetrics();
    AddCancel();
    AddJobVerb("delete", "Remove a job that is over, with its records", help::kDelete, false,
               [this](Client& client) { return Delete(client, job_); });
  }

  int Run(std::vector<std::string> arguments) {
    if (arguments.empty()) {
      terminal_.err << app_.help();
      return static_cast<int>(ExitCode::kUsage);
    }
    if (!arguments[0].starts_with("-") && !IsVerb(arguments[0])) return UnknownVerb(arguments[0]);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
      const int code = app_.exit(error, terminal_.out, terminal_.err);
      return code == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
    }
    const Outcome outcome = run_();
    if (outcome.ok()) return static_cast<int>(*outcome);
    terminal_.err << "ithaca: " << ErrorText(outcome.status(), server_) << "\n";
    return static_cast<int>(ExitCodeOf(outcome.status()));
  }

 private:
  std::vector<std::string> Verbs() const {
    std::vector<std::string> verbs;
    for (const CLI::App* verb : app_.get_subcommands([](const CLI::App*) { return true; }))
      verbs.push_back(verb->get_name());
    return verbs;
  }

  bool IsVerb(const std::string& word) const {
    const std::vector<std::string> verbs = Verbs();
    return std::find(verbs.begin(), verbs.end(), word) != verbs.end();
  }

  int UnknownVerb(const std::string& word) const {
    const std::string nearest = Nearest(word, Verbs());
    terminal_.err << "ithaca: there is no verb " << word
                  << (nearest.empty() ? "; see ithaca --help" : "; did you mean " + nearest + "?") << "\n";
    return static_cast<int>(ExitCode::kUsage);
  }

  CLI::App* AddVerb(const std::string& name, const std::string& summary, const std::string& footer) {
    CLI::App* verb = app_.add_subcommand(name, summary);
    verb->footer(footer);
    return verb;
  }

  void AddServer(CLI::App* verb) {
    verb->add_option("-s,--server", server_, "Coordinator; default ITHACA_SERVER, else 127.0.0.1:7070")
        ->type_name("HOST:PORT");
    verb->add_option("--tls-ca", tls_.ca, "PEM certificates to trust; turns TLS on")
        ->type_name("FILE")
        ->envname("ITHACA_TLS_CA");
    CLI::Option* cert = verb->add_option("--tls-cert", tls_.cert, "PEM certificate to show; needs --tls-key")
                            ->type_name("FILE")
                            ->envname("ITHACA_TLS_CERT");
    CLI::Option* key =
        verb->add_option("--tls-key", tls_.key, "PEM key to it")->type_name("FILE")->envname("ITHACA_TLS_KEY");
    cert->needs(key);
    key->needs(cert);
  }

  void AddOutput(CLI::App* verb) {
    static const std::map<std::string, OutputFormat> kFormats = {
        {"table", OutputFormat::kTable}, {"json", OutputFormat::kJson}, {"yaml", OutputFormat::kYaml}};
    verb->add_option("-o,--output", output_, "table (default), json or yaml")
        ->type_name("FORMAT")
        ->transform(CLI::CheckedTransformer(kFormats).description(""));
  }

  void AddSource(CLI::App* verb, JobSource& source) {
    verb->add_option("job-file", source.path, "Job file, YAML or JSON; - reads standard input")
        ->required()
        ->type_name("FILE");
    verb->add_option("--set", source.overrides, "Change a field: --set training.steps=20. May be repeated")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
  }

  // A verb that talks to the coordinator.
  void OnRun(CLI::App* verb, std::function<Outcome(Client&)> act) {
    verb->final_callback([this, act = std::move(act)] {
      run_ = [this, act]() -> Outcome {
        ASSIGN_OR_RETURN(const auto credentials, MakeCredentials(tls_));
        Client client(server_, credentials, output_, terminal_);
        return act(client);
      };
    });
  }

  CLI::App* AddJobVerb(const std::string& name, const std::string& summary, const std::string& footer, bool has_output,
                       std::function<Outcome(Client&)> act) {
    CLI::App* verb = AddVerb(name, summary, footer);
    verb->add_option("job", job_, "Id of the job, or latest")->required()->type_name("JOB");
    if (has_output) AddOutput(verb);
    AddServer(verb);
    OnRun(verb, std::move(act));
    return verb;
  }

  void AddSubmit() {
    CLI::App* verb = AddVerb("submit", "Submit a job", help::kSubmit);
    AddSource(verb, submit_.source);
    verb->add_flag("--dry-run", submit_.dry_run, "Check and plan, but submit nothing");
    verb->add_flag("-w,--watch", submit_.watch, "Then watch it; the exit code is that of watch");
    verb->add_option("--request-id", submit_.request_id, "Makes repeating the command safe; default: a new one")
        ->type_name("TEXT");
    AddOutput(verb);
    AddServer(verb);
    OnRun(verb, [this](Client& client) { return Submit(client, submit_); });
  }

  void AddEstimate() {
    CLI::App* verb = AddVerb("estimate", "Tell whether a job fits in memory, without a coordinator", help::kEstimate);
    AddSource(verb, estimate_.source);
    verb->add_option("--gpu", estimate_.gpu, "Plan for this GPU, such as h100-80gb")->type_name("NAME");
    verb->add_option("--memory", estimate_.memory_per_slot, "Memory of a slot; default: the GPU's or this host's share")
        ->type_name("SIZE");
    verb->add_option("--slots", estimate_.slots, "GPUs or CPU slots there are; default: what the job asks for")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 20).description(""));
    AddOutput(verb);
    verb->final_callback([this] { run_ = [this] { return Estimate(estimate_, output_, terminal_); }; });
  }

  void AddList() {
    CLI::App* verb = AddVerb("list", "List jobs, newest first", help::kList);
    verb->add_option("-f,--filter", list_.filter, "Such as state=QUEUED|RUNNING or labels.team=nlp")
        ->type_name("TERMS");
    verb->add_option("-n,--limit", list_.limit, "Most jobs shown, 0 for all; default 50")
        ->type_name("N")
        ->check(CLI::NonNegativeNumber.description(""));
    AddOutput(verb);
    AddServer(verb);
    OnRun(verb, [this](Client& client) { return List(client, list_); });
  }

  void AddLogs() {
    CLI::App* verb = AddJobVerb("logs", "Print what the ranks wrote", help::kLogs, false, [this](Client& client) {
      logs_.job = job_;
      return Logs(client, logs_);
    });
    verb->add_flag("-f,--follow", logs_.follow, "Go on until the job is over");
    verb->add_option("-r,--rank", logs_.ranks, "Only this rank. May be repeated")
        ->type_name("N")
        ->allow_extra_args(false);
    verb->add_option("--attempt", logs_.attempt, "Of this attempt; default: the newest")->type_name("N");
  }

  void AddMetrics() {
    CLI::App* verb = AddJobVerb("metrics", "Print loss, gradient norm, speed and memory of every step", help::kMetrics,
                                true, [this](Client& client) {
                                  metrics_.job = job_;
                                  return Metrics(client, metrics_);
                                });
    verb->add_flag("-f,--follow", metrics_.follow, "Go on until the job is over");
  }

  void AddCancel() {
    CLI::App* verb = AddJobVerb("cancel", "End a job", help::kCancel, true, [this](Client& client) {
      cancel_.job = job_;
      return Cancel(client, cancel_);
    });
    verb->add_option("--grace", cancel_.grace_seconds, "Seconds before its processes are killed; default 10")
        ->type_name("SECONDS")
        ->check(CLI::Range(0, 3600).description(""));
  }

  Terminal& terminal_;
  std::string server_;
  TlsFiles tls_;
  OutputFormat output_ = OutputFormat::kTable;
  std::string job_;
  SubmitOptions submit_;
  EstimateOptions estimate_;
  ListOptions list_;
  LogsOptions logs_;
  MetricsOptions metrics_;
  CancelOptions cancel_;
  CLI::App app_;
  std::function<Outcome()> run_;
};

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, const std::string& server, Terminal& terminal) {
  return CommandLine(server, terminal).Run(arguments);
}

}  // namespace ithaca::client
