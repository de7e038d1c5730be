#include "worker/engine/failure.h"

#include <c10/util/Exception.h>

#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {

using plan::ExitCode;

std::optional<Failure> Catch(const std::function<void()>& body) {
  try {
    body();
    return std::nullopt;
  } catch (const EngineError& error) {
    return Failure{error.code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return Failure{ExitCode::kGpuOutOfMemory, error.what_without_backtrace()};
  } catch (const std::bad_alloc&) {
    return Failure{ExitCode::kHostOutOfMemory, "the host has no memory left for this rank"};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    const bool host_memory = message.find("not enough memory") != std::string::npos ||
                             message.find("can't allocate memory") != std::string::npos;
    return Failure{host_memory ? ExitCode::kHostOutOfMemory : ExitCode::kInternal, message};
  } catch (const std::exception& error) {
    return Failure{ExitCode::kInternal, error.what()};
  }
}

void ReportFailure(const Failure& failure, EventSink& events) {
  std::cerr << "ithaca-engine: " << failure.message << std::endl;
  events.Emit(
      "failed",
      {{"code", static_cast<int>(failure.code)}, {"reason", ReasonName(failure.code)}, {"message", failure.message}});
}

}  // namespace ithaca::engine
