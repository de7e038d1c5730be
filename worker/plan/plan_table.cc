#include "worker/plan/plan_table.h"

#include <algorithm>
#include <cstdio>

namespace ithaca::plan {
namespace {

std::string Line(const char* format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return std::string(text) + "\n";
}

std::string Header(const MemoryPlan& plan, const RunConfig& config, const ModelConfig& model,
                   const DeviceLimits& limits) {
  std::string text =
      Line("Model     %s, %.1f M parameters, %lld layers, %lld query and %lld KV heads, %s", model.family.c_str(),
           model.Parameters() / 1e6, static_cast<long long>(model.layers), static_cast<long long>(model.query_heads),
           static_cast<long long>(model.kv_heads), plan.dtype == DType::kFloat32 ? "fp32" : "bf16");
  text += Line("Job       %lld tokens a sequence on %d rank%s, %d replica%s, %lld sequence%s a step",
               static_cast<long long>(config.sequence_length), plan.sequence_ranks, plan.sequence_ranks == 1 ? "" : "s",
               plan.replicas, plan.replicas == 1 ? "" : "s", static_cast<long long>(plan.global_batch),
               plan.global_batch == 1 ? "" : "s");
  const std::string name = limits.name.empty() ? (limits.kind == DeviceKind::kCuda ? "cuda" : "cpu") : limits.name;
  text += Line("Device    %s, %d slot%s, %s each", name.c_str(), limits.slots, limits.slots == 1 ? "" : "s",
               limits.bytes_per_slot > 0 ? FormatBytes(limits.bytes_per_slot).c_str() : "memory unknown");
  return text;
}

std::string Verdict(const MemoryPlan& plan) {
  if (plan.capacity_bytes == 0) return "The capacity of the device is not known: nothing was refused.\n";
  const double share = 100.0 * static_cast<double>(plan.total_bytes) / static_cast<double>(plan.capacity_bytes);
  if (plan.fits) return Line("FITS: %.0f %% of %s.", share, FormatBytes(plan.capacity_bytes).c_str());
  return Line("DOES NOT FIT: %.0f %% of %s.", share, FormatBytes(plan.capacity_bytes).c_str()) + "  " +
         plan.suggestion + ".\n";
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  const double n = static_cast<double>(bytes);
  char text[32];
  if (n >= 1024.0 * 1024 * 1024) {
    std::snprintf(text, sizeof text, "%.2f GiB", n / (1024.0 * 1024 * 1024));
  } else if (n >= 1024.0 * 1024) {
    std::snprintf(text, sizeof text, "%.0f MiB", n / (1024.0 * 1024));
  } else {
    std::snprintf(text, sizeof text, "%.0f KiB", n / 1024.0);
  }
  return text;
}

std::string FormatPlanTable(const MemoryPlan& plan, const RunConfig& config, const ModelConfig& model,
                            const DeviceLimits& limits) {
  std::string text = Header(plan, config, model, limits) + "\n";
  text += Line("%-18s %10s   %s", "per rank, at peak", "memory", "how it comes about");
  for (const MemoryTerm& term : plan.terms) {
    text += Line("%-18s %10s   %s", term.name.c_str(), FormatBytes(term.bytes).c_str(), term.formula.c_str());
  }
  text += Line("%-18s %10s%s", "total", FormatBytes(plan.total_bytes).c_str(),
               plan.sequence_ranks > 1 ? "   of the fullest rank" : "");
  text += "\n" + Verdict(plan) + "\n";
  text += Line("%-24s %-10s %s", "setting", "value", "why");
  for (const Choice& choice : plan.choices) {
    text += Line("%-24s %-10s %s", choice.key.c_str(), choice.value.c_str(), choice.reason.c_str());
  }
  return text;
}

}  // namespace ithaca::plan
