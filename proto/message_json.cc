#include "proto/message_json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

#include "proto/field_names.h"
#include "proto/job_file.h"

namespace ithaca {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::TimeUtil;
using json = nlohmann::ordered_json;

json SubmessageToJson(const Message& message) {
  if (message.GetDescriptor() == google::protobuf::Timestamp::descriptor()) {
    google::protobuf::Timestamp time;
    time.CopyFrom(message);
    const bool valid = time.seconds() >= TimeUtil::kTimestampMinSeconds &&
                       time.seconds() <= TimeUtil::kTimestampMaxSeconds && time.nanos() >= 0 &&
                       time.nanos() < 1000000000;
    return valid ? TimeUtil::ToString(time) : "";
  }
  if (message.GetDescriptor() == google::protobuf::Duration::descriptor()) {
    google::protobuf::Duration duration;
    duration.CopyFrom(message);
    return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
  }
  return MessageToJson(message);
}

// A value without a name was made by a newer version: its number has to do.
json EnumToJson(const Message& message, const FieldDescriptor& field) {
  const int number = message.GetReflection()->GetEnumValue(message, &field);
  const auto* value = field.enum_type()->FindValueByNumber(number);
  return value == nullptr ? json(number) : json(WordOf(*value));
}

json SingularToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumToJson(message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return SubmessageToJson(reflection.GetMessage(message, &field));
  }
  return nullptr;
}

json MapToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  std::map<std::string, json> sorted;  // the map's own order is arbitrary
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const auto& type = *entry.GetDescriptor();
    sorted[entry.GetReflection()->GetString(entry, type.map_key())] = SingularToJson(entry, *type.map_value());
  }
  return sorted;
}

// Lists of the contract hold messages, text or 32-bit integers.
json ListToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  json list = json::array();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        list.push_back(SubmessageToJson(reflection.GetRepeatedMessage(message, &field, i)));
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        list.push_back(reflection.GetRepeatedString(message, &field, i));
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        list.push_back(reflection.GetRepeatedInt32(message, &field, i));
        break;
      default:
        break;
    }
  }
  return list;
}

void EmitYaml(YAML::Emitter& out, const json& value) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, item] : value.items()) {
      out << YAML::Key << key << YAML::Value;
      EmitYaml(out, item);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    out << YAML::BeginSeq;
    for (const json& item : value) EmitYaml(out, item);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (text.find('\n') != std::string::npos) {
      out << YAML::Literal << text;
    } else if (text.empty() || json::accept(text)) {  // would read back as nothing, a number or a truth value
      out << YAML::DoubleQuoted << text;
    } else {
      out << text;
    }
  } else {
    out << value.dump();
  }
}

}  // namespace

json MessageToJson(const Message& message) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  json result = json::object();
  for (const FieldDescriptor* field : present) {
    result[field->name()] = field->is_map()        ? MapToJson(message, *field)
                            : field->is_repeated() ? ListToJson(message, *field)
                                                   : SingularToJson(message, *field);
  }
  return result;
}

std::string ToYaml(const json& value) {
  YAML::Emitter out;
  EmitYaml(out, value);
  return std::string(out.c_str()) + "\n";
}

nlohmann::json ToRunJson(const v1::JobSpec& spec) { return MessageToJson(spec); }

}  // namespace ithaca
