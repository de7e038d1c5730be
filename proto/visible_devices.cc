#include "proto/visible_devices.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ithaca {

std::vector<std::string> VisibleDevices(const char* list, int installed) {
  std::vector<std::string> devices;
  if (list == nullptr) {
    for (int device = 0; device < installed; ++device) devices.push_back(absl::StrCat(device));
    return devices;
  }
  for (const absl::string_view entry : absl::StrSplit(list, ',')) {
    const std::string name(absl::StripAsciiWhitespace(entry));
    int index = -1;
    const bool by_index = absl::SimpleAtoi(name, &index) && index >= 0 && index < installed;
    if (!by_index && !absl::StartsWith(name, "GPU-") && !absl::StartsWith(name, "MIG-")) break;
    devices.push_back(name);
  }
  return devices;
}

}  // namespace ithaca
