#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace ithaca {

// A message of the contract as JSON, the way the job file spells it: fields in order by their snake_case names, enums
// as lower-case words, integers as numbers, times as RFC 3339 text, durations as seconds; absent fields are left out.
// (The canonical JSON form of protobuf differs: it quotes 64-bit integers and shouts enums.)
nlohmann::ordered_json MessageToJson(const google::protobuf::Message& message);

// The same as YAML text, ending in a newline. Text that YAML would read as a number or truth value is quoted.
std::string ToYaml(const nlohmann::ordered_json& value);

}  // namespace ithaca
