#include <getopt.h>

#include <cstdlib>
#include <iostream>

#include "worker/engine/errors.h"
#include "worker/engine/run.h"

namespace ithaca::engine {
namespace {

constexpr char kUsage[] =
    "Usage: ithaca-engine --config run.json [options]\n"
    "One rank of a training job. RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say which; without them it "
    "is\n"
    "the only one.\n"
    "  --config FILE            the job, as JSON\n"
    "  --events-fd N            where events go, a JSON object a line (default: standard output)\n"
    "  --commands-fd N          where commands come from, a JSON object a line\n"
    "  --model-directory DIR    in the place of the job's model.path\n"
    "  --dump-gradients DIR     write the first step's gradients to DIR/gradients.safetensors, and end\n"
    "  --plan-only              print the memory plan, and end\n";

int ParseFd(const char* text) {
  char* end = nullptr;
  const long fd = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || fd < 0 || fd > 1 << 20) {
    throw EngineError(plan::ExitCode::kInvalidConfig, std::string("not a file descriptor: ") + text);
  }
  return static_cast<int>(fd);
}

}  // namespace

EngineOptions ParseCommandLine(int argc, char** argv) {
  enum Option { kConfig = 1, kEvents, kCommands, kModel, kDump, kPlanOnly, kHelp };
  const option options[] = {{"config", required_argument, nullptr, kConfig},
                            {"events-fd", required_argument, nullptr, kEvents},
                            {"commands-fd", required_argument, nullptr, kCommands},
                            {"model-directory", required_argument, nullptr, kModel},
                            {"dump-gradients", required_argument, nullptr, kDump},
                            {"plan-only", no_argument, nullptr, kPlanOnly},
                            {"help", no_argument, nullptr, kHelp},
                            {}};
  EngineOptions parsed;
  for (int code; (code = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (code) {
      case kConfig:
        parsed.config_path = optarg;
        break;
      case kEvents:
        parsed.events_fd = ParseFd(optarg);
        break;
      case kCommands:
        parsed.commands_fd = ParseFd(optarg);
        break;
      case kModel:
        parsed.model_directory = optarg;
        break;
      case kDump:
        parsed.dump_gradients_directory = optarg;
        break;
      case kPlanOnly:
        parsed.plan_only = true;
        break;
      case kHelp:
        std::cout << kUsage;
        std::exit(0);
      default:
        throw EngineError(plan::ExitCode::kInvalidConfig, "wrong command line; see ithaca-engine --help");
    }
  }
  if (optind != argc) {
    throw EngineError(plan::ExitCode::kInvalidConfig, std::string("unexpected argument ") + argv[optind]);
  }
  if (parsed.config_path.empty()) {
    throw EngineError(plan::ExitCode::kInvalidConfig, "--config is missing; see ithaca-engine --help");
  }
  return parsed;
}

}  // namespace ithaca::engine
