#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

// How the job file spells the contract's names.
namespace ithaca {

// DATA_TYPE_BFLOAT16 of enum DataType -> "bfloat16".
std::string WordOf(const google::protobuf::EnumValueDescriptor& value);

// The value of that word, or null. The zero value has no word: it is spelled by leaving the key out.
const google::protobuf::EnumValueDescriptor* ValueOf(const google::protobuf::EnumDescriptor& type,
                                                     const std::string& word);

// All words of an enum, in order.
std::vector<std::string> WordsOf(const google::protobuf::EnumDescriptor& type);

// The candidate with the smallest edit distance to `name`, or empty if none is near enough to be what was meant.
std::string Nearest(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace ithaca
