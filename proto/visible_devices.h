#pragma once

#include <string>
#include <vector>

namespace ithaca {

// The CUDA devices that a process sees, under the names that CUDA_VISIBLE_DEVICES may have: "0", "1", ... or what its
// list says ("3", "GPU-8932f937-..."). `list` is the variable's value, null if it is not set; `installed` how many
// devices there are, by PCI bus. As CUDA does it, the list ends at the first entry that is no device; UUIDs are
// believed.
std::vector<std::string> VisibleDevices(const char* list, int installed);

}  // namespace ithaca
