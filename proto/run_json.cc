// ToRunJson: JobSpec -> JSON, by walking the message.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

#include "proto/field_names.h"
#include "proto/job_file.h"

namespace ithaca {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;

json MessageToJson(const Message& message);

json ScalarToJson(const Message& message, const FieldDescriptor& field) {
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
      return WordOf(*reflection.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageToJson(reflection.GetMessage(message, &field));
  }
  return nullptr;
}

json RepeatedToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  json result = field.is_map() ? json::object() : json::array();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      result.push_back(reflection.GetRepeatedString(message, &field, i));
    } else if (field.is_map()) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      const std::string key = entry.GetReflection()->GetString(entry, entry.GetDescriptor()->map_key());
      result[key] = ScalarToJson(entry, *entry.GetDescriptor()->map_value());
    } else {
      result.push_back(MessageToJson(reflection.GetRepeatedMessage(message, &field, i)));
    }
  }
  return result;
}

json MessageToJson(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection.ListFields(message, &present);
  json result = json::object();
  for (const FieldDescriptor* field : present) {
    result[field->name()] = field->is_repeated() ? RepeatedToJson(message, *field) : ScalarToJson(message, *field);
  }
  return result;
}

}  // namespace

json ToRunJson(const v1::JobSpec& spec) { return MessageToJson(spec); }

}  // namespace ithaca
