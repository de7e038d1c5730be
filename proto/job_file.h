#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/v1/job.pb.h"
#include "proto/field_mistake.h"

// The job file: YAML or JSON text <-> JobSpec <-> run.json, by walking the JobSpec descriptor. A key of the file is a
// field's name, an enum value its lower-case name without its prefix, `auto` or null the same as an absent key. Where a
// message with a field `path` is expected, a plain string fills that field. All functions are pure and may be called
// from any thread; no input, however wrong, makes them throw or crash.
namespace ithaca {

// Largest job file accepted, in bytes.
inline constexpr size_t kMaxJobFileBytes = 1 << 20;

// Reads a job file and appends everything that is wrong with it to `mistakes`: unknown keys (with the nearest known
// one), wrong types, values out of range (ValidateJobSpec), each with its line and in the order of the lines.
// `overrides` are applied on top before it is checked: "training.steps=20" sets a field to a YAML value; a list
// replaces the list, a map is added to, null takes the field away. The result is only meaningful if no mistake was
// added.
v1::JobSpec ParseJobFile(std::string_view text, const std::vector<std::string>& overrides, FieldMistakes& mistakes);

// Checks a job against the rules beside its fields (ithaca/v1/rules.proto) and the few that concern several fields.
// Everything wrong, in the order of the fields; lines are 0.
FieldMistakes ValidateJobSpec(const v1::JobSpec& spec);

// The JSON form of the job file, which is what engines read as run.json: absent fields and fields at a default that
// cannot be told from absent are left out. ParseJobFile reads it back to an equal JobSpec.
nlohmann::json ToRunJson(const v1::JobSpec& spec);

}  // namespace ithaca
