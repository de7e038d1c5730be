// ValidateJobSpec: the rules of ithaca/v1/rules.proto, applied by walking the message.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ithaca/v1/rules.pb.h"
#include "proto/field_names.h"
#include "proto/job_file.h"

namespace ithaca {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using v1::FieldRules;

bool IsDnsLabel(const std::string& text) {
  if (text.empty() || text.size() > 63 || text.front() == '-' || text.back() == '-') return false;
  for (const char c : text) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '-') return false;
  }
  return true;
}

// The clause that says what is wrong with a number, or empty.
std::string NumberMistake(double value, const FieldRules& rules) {
  const auto must = [value](const char* what, double limit) {
    return absl::StrCat("must be ", what, " ", limit, ", not ", value);
  };
  if (!std::isfinite(value)) return "must be a finite number";
  if (rules.has_above() && value <= rules.above()) return must("greater than", rules.above());
  if (rules.has_below() && value >= rules.below()) return must("less than", rules.below());
  if (rules.has_minimum() && value < rules.minimum()) return must("at least", rules.minimum());
  if (rules.has_maximum() && value > rules.maximum()) return must("at most", rules.maximum());
  return "";
}

std::string StringMistake(const std::string& value, const FieldRules& rules) {
  if (rules.dns_label() && !IsDnsLabel(value)) {
    return "must be 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end";
  }
  if (rules.has_max_bytes() && value.size() > rules.max_bytes()) {
    return absl::StrCat("must be at most ", rules.max_bytes(), " bytes long, not ", value.size());
  }
  if (value.find('\0') != std::string::npos) return "must not contain a NUL character";
  return "";
}

// Numbers of singular fields as a double; nullopt if it is no number.
std::optional<double> NumberOf(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    default:
      return std::nullopt;
  }
}

class RuleChecker {
 public:
  explicit RuleChecker(FieldMistakes& mistakes) : mistakes_(mistakes) {}

  void CheckMessage(const Message& message, const std::string& prefix) {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *message.GetDescriptor()->field(i);
      const FieldRules& rules = field.options().GetExtension(v1::rules);
      const std::string path = prefix.empty() ? field.name() : absl::StrCat(prefix, ".", field.name());
      if (field.is_repeated()) {
        CheckRepeated(message, field, rules, path);
      } else {
        CheckSingular(message, field, rules, path);
      }
    }
  }

 private:
  void Add(const std::string& path, const std::string& clause) {
    if (!clause.empty()) mistakes_.push_back({path, 0, clause});
  }

  void CheckRepeated(const Message& message, const FieldDescriptor& field, const FieldRules& rules,
                     const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    const int count = reflection.FieldSize(message, &field);
    if (rules.required() && count == 0) Add(path, "must be given");
    if (rules.has_max_items() && count > static_cast<int>(rules.max_items())) {
      Add(path, absl::StrCat("must have at most ", rules.max_items(), " entries, not ", count));
    }
    for (int i = 0; i < count; ++i) {
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        Add(absl::StrCat(path, "[", i, "]"), StringMistake(reflection.GetRepeatedString(message, &field, i), rules));
      } else if (field.is_map()) {
        CheckMapEntry(reflection.GetRepeatedMessage(message, &field, i), rules, path);
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        CheckMessage(reflection.GetRepeatedMessage(message, &field, i), absl::StrCat(path, "[", i, "]"));
      }
    }
  }

  // Maps of the contract are from string to string.
  void CheckMapEntry(const Message& entry, const FieldRules& rules, const std::string& path) {
    const Reflection& reflection = *entry.GetReflection();
    const std::string key = reflection.GetString(entry, entry.GetDescriptor()->map_key());
    const std::string value_path = absl::StrCat(path, ".", key);
    if (key.empty()) Add(path, "must not have an empty key");
    Add(path, StringMistake(key, rules));
    Add(value_path, StringMistake(reflection.GetString(entry, entry.GetDescriptor()->map_value()), rules));
  }

  void CheckSingular(const Message& message, const FieldDescriptor& field, const FieldRules& rules,
                     const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    if (!reflection.HasField(message, &field) && (rules.required() || field.has_presence())) {
      if (rules.required() && rules.has_minimum()) Add(path, absl::StrCat("must be given, at least ", rules.minimum()));
      if (rules.required() && !rules.has_minimum()) Add(path, "must be given");
      return;
    }
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        CheckMessage(reflection.GetMessage(message, &field), path);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        Add(path, StringMistake(reflection.GetString(message, &field), rules));
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        if (field.enum_type()->FindValueByNumber(reflection.GetEnumValue(message, &field)) == nullptr) {
          Add(path, absl::StrCat("must be one of ", absl::StrJoin(WordsOf(*field.enum_type()), ", ")));
        }
        break;
      default:
        if (const auto number = NumberOf(message, field)) Add(path, NumberMistake(*number, rules));
    }
  }

  FieldMistakes& mistakes_;
};

void CheckFieldsTogether(const v1::JobSpec& spec, FieldMistakes& mistakes) {
  const v1::TrainingSpec& training = spec.training();
  if (spec.has_training() && !training.has_steps() && !training.has_epochs()) {
    mistakes.push_back({"training.steps", 0, "must be given, or training.epochs"});
  }
  if (training.has_steps() && training.has_epochs()) {
    mistakes.push_back({"training.epochs", 0, "must not be given together with training.steps"});
  }
  if (training.has_global_batch() && spec.parallelism().has_replicas() && spec.parallelism().replicas() > 0 &&
      training.global_batch() % spec.parallelism().replicas() != 0) {
    mistakes.push_back({"training.global_batch", 0,
                        absl::StrCat("must be a multiple of parallelism.replicas (", spec.parallelism().replicas(),
                                     "), not ", training.global_batch())});
  }
  if (spec.evaluation().every_steps() > 0 && spec.data().eval().empty()) {
    mistakes.push_back({"data.eval", 0, "must be given when evaluation.every_steps is"});
  }
  if (spec.model().has_rope_scaling() && spec.model().rope_scaling().type() != v1::RopeScaling::TYPE_UNSPECIFIED &&
      !spec.model().rope_scaling().has_factor()) {
    mistakes.push_back({"model.rope_scaling.factor", 0, "must be given with a type"});
  }
}

}  // namespace

FieldMistakes ValidateJobSpec(const v1::JobSpec& spec) {
  FieldMistakes mistakes;
  RuleChecker(mistakes).CheckMessage(spec, "");
  CheckFieldsTogether(spec, mistakes);
  return mistakes;
}

}  // namespace ithaca
