#include "proto/job_file.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/reflection.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/field_names.h"

namespace ithaca {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string Join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : absl::StrCat(prefix, ".", name);
}

// What a YAML node is, for messages: "a list", "the text \"abc\"".
std::string Describe(const YAML::Node& node) {
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a map";
  constexpr size_t kShown = 40;
  const std::string text = node.Scalar();
  return absl::StrCat("\"", text.substr(0, kShown), text.size() > kShown ? "..." : "", "\"");
}

// yaml-cpp tags quoted scalars "!": they are text, whatever they look like.
bool IsQuoted(const YAML::Node& node) { return node.Tag() == "!"; }

// Fills a message from a YAML node. One use, one thread. Recursion follows the descriptor, so its depth is that of the
// contract whatever the input is.
class JobFileReader {
 public:
  explicit JobFileReader(FieldMistakes& mistakes) : mistakes_(mistakes) {}

  void ReadMessage(const YAML::Node& node, Message& message, const std::string& path) {
    const FieldDescriptor* shorthand = message.GetDescriptor()->FindFieldByName("path");
    if (node.IsScalar() && shorthand != nullptr) return ReadScalar(node, message, *shorthand, path);
    if (!node.IsMap()) return Add(node, path, absl::StrCat("must be a map, not ", Describe(node)));
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        Add(entry.first, path, "has a key that is not a word");
        continue;
      }
      const std::string key = entry.first.Scalar();
      const std::string field_path = Join(path, key);
      NoteLine(field_path, entry.first);
      const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
      if (field == nullptr) {
        AddUnknownKey(entry.first, message, field_path);
      } else if (!seen.insert(key).second) {
        Add(entry.first, field_path, "is given twice");
      } else {
        ReadField(entry.second, message, *field, field_path);
      }
    }
  }

  // The line of `path`, or of the nearest thing around it that is in the file; 0 if there is none.
  int LineOf(std::string path) const {
    while (true) {
      if (const auto found = lines_.find(path); found != lines_.end()) return found->second;
      const size_t cut = path.find_last_of(".[");
      if (cut == std::string::npos) return 0;
      path.resize(cut);
    }
  }

  // Lines of overrides mean nothing to the user.
  void NumberLines(bool on) { number_lines_ = on; }

 private:
  int Line(const YAML::Node& node) const { return number_lines_ && node.Mark().line >= 0 ? node.Mark().line + 1 : 0; }
  void NoteLine(const std::string& path, const YAML::Node& node) { lines_[path] = Line(node); }

  void Add(const YAML::Node& node, const std::string& path, std::string message) {
    mistakes_.push_back({path, Line(node), std::move(message)});
  }

  void AddUnknownKey(const YAML::Node& key, const Message& message, const std::string& path) {
    std::vector<std::string> known;
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      known.push_back(message.GetDescriptor()->field(i)->name());
    }
    const std::string nearest = Nearest(key.Scalar(), known);
    Add(key, path,
        nearest.empty() ? absl::StrCat("is not a key here; known keys are ", absl::StrJoin(known, ", "))
                        : absl::StrCat("is not a key here; did you mean ", nearest, "?"));
  }

  void ReadField(const YAML::Node& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    if (node.IsNull()) return message.GetReflection()->ClearField(&message, &field);
    if (field.is_map()) return ReadMap(node, message, field, path);
    if (field.is_repeated()) return ReadList(node, message, field, path);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return ReadMessage(node, *message.GetReflection()->MutableMessage(&message, &field), path);
    }
    ReadScalar(node, message, field, path);
  }

  void ReadList(const YAML::Node& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    if (!node.IsSequence()) return Add(node, path, absl::StrCat("must be a list, not ", Describe(node)));
    const Reflection& reflection = *message.GetReflection();
    reflection.ClearField(&message, &field);
    for (size_t i = 0; i < node.size(); ++i) {
      const std::string item_path = absl::StrCat(path, "[", i, "]");
      NoteLine(item_path, node[i]);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        ReadMessage(node[i], *reflection.AddMessage(&message, &field), item_path);
      } else if (node[i].IsScalar()) {
        reflection.AddString(&message, &field, node[i].Scalar());
      } else {
        Add(node[i], item_path, absl::StrCat("must be text, not ", Describe(node[i])));
      }
    }
  }

  // Maps of the contract are from string to string.
  void ReadMap(const YAML::Node& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    if (!node.IsMap()) return Add(node, path, absl::StrCat("must be a map, not ", Describe(node)));
    const Reflection& reflection = *message.GetReflection();
    google::protobuf::MutableRepeatedFieldRef<Message> entries =
        reflection.GetMutableRepeatedFieldRef<Message>(&message, &field);
    for (const auto& item : node) {
      if (!item.first.IsScalar() || !(item.second.IsScalar() || item.second.IsNull())) {
        Add(item.first, path, "must map words to text");
        continue;
      }
      const std::string item_path = Join(path, item.first.Scalar());
      NoteLine(item_path, item.first);
      std::unique_ptr<Message> entry(entries.NewMessage());
      entry->GetReflection()->SetString(entry.get(), entry->GetDescriptor()->map_key(), item.first.Scalar());
      entry->GetReflection()->SetString(entry.get(), entry->GetDescriptor()->map_value(),
                                        item.second.IsNull() ? "" : item.second.Scalar());
      entries.Add(*entry);
    }
  }

  void ReadScalar(const YAML::Node& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    const bool is_text = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    if (!node.IsScalar()) return Add(node, path, absl::StrCat("must be ", Wanted(field), ", not ", Describe(node)));
    if (!is_text && node.Scalar() == "auto") return message.GetReflection()->ClearField(&message, &field);
    const bool wrong_quotes = IsQuoted(node) && !is_text && field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM;
    if (wrong_quotes || !SetScalar(node.Scalar(), message, field)) {
      std::string clause = absl::StrCat("must be ", Wanted(field), ", not ", Describe(node));
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
        const std::string nearest = Nearest(node.Scalar(), WordsOf(*field.enum_type()));
        if (!nearest.empty()) absl::StrAppend(&clause, "; did you mean ", nearest, "?");
      }
      Add(node, path, clause);
    }
  }

  static std::string Wanted(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return "true or false";
      case FieldDescriptor::CPPTYPE_STRING:
        return "text";
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return "a number";
      case FieldDescriptor::CPPTYPE_UINT64:
        return "a whole number of at least 0";
      case FieldDescriptor::CPPTYPE_ENUM:
        return absl::StrCat("one of ", absl::StrJoin(WordsOf(*field.enum_type()), ", "));
      default:
        return "a whole number";
    }
  }

  static bool SetScalar(const std::string& text, Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        reflection.SetString(&message, &field, text);
        return true;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection.SetBool(&message, &field, text == "true");
        return text == "true" || text == "false";
      case FieldDescriptor::CPPTYPE_INT32: {
        int32_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        reflection.SetInt32(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        reflection.SetInt64(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        reflection.SetUInt64(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double value = 0;
        if (!absl::SimpleAtod(text, &value)) return false;
        reflection.SetDouble(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const EnumValueDescriptor* value = ValueOf(*field.enum_type(), text);
        if (value != nullptr) reflection.SetEnum(&message, &field, value);
        return value != nullptr;
      }
      default:
        return false;
    }
  }

  FieldMistakes& mistakes_;
  std::map<std::string, int> lines_;
  bool number_lines_ = true;
};

bool IsUtf8(std::string_view text) {
  try {
    nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

// Parses text, or adds why it cannot be. Null for an empty text.
std::optional<YAML::Node> LoadYaml(std::string_view text, FieldMistakes& mistakes) {
  if (text.size() > kMaxJobFileBytes) {
    mistakes.push_back({"", 0, absl::StrCat("a job file is at most ", kMaxJobFileBytes, " bytes, not ", text.size())});
    return std::nullopt;
  }
  if (!IsUtf8(text)) {
    mistakes.push_back({"", 0, "a job file must be UTF-8 text"});
    return std::nullopt;
  }
  try {
    return YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    mistakes.push_back({"", error.mark.line + 1, absl::StrCat("not readable as YAML or JSON: ", error.msg)});
    return std::nullopt;
  }
}

// "a.b=value" -> {a: {b: value}} in flow form, so that a mistake in it is found like one in the file.
void ApplyOverride(const std::string& assignment, JobFileReader& reader, v1::JobSpec& spec, FieldMistakes& mistakes) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    mistakes.push_back({assignment, 0, "an override has the form key=value, such as training.steps=20"});
    return;
  }
  std::optional<YAML::Node> node = LoadYaml(assignment.substr(equals + 1), mistakes);
  if (!node) return;
  const std::vector<std::string> keys = absl::StrSplit(assignment.substr(0, equals), '.');
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    YAML::Node outer(YAML::NodeType::Map);
    outer[*key] = *node;
    node = outer;
  }
  reader.ReadMessage(*node, spec, "");
}

// Something is already known to be wrong at this path or in it.
bool HasMistakeAt(const FieldMistakes& mistakes, const std::string& path) {
  for (const FieldMistake& known : mistakes) {
    if (known.field.compare(0, path.size(), path) == 0 &&
        (known.field.size() == path.size() || known.field[path.size()] == '.' || known.field[path.size()] == '[')) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string ToString(const FieldMistake& mistake) {
  return absl::StrCat(mistake.line > 0 ? absl::StrCat("line ", mistake.line, ": ") : "",
                      mistake.field.empty() ? "" : absl::StrCat(mistake.field, ": "), mistake.message);
}

v1::JobSpec ParseJobFile(std::string_view text, const std::vector<std::string>& overrides, FieldMistakes& mistakes) {
  v1::JobSpec spec;
  FieldMistakes found;
  JobFileReader reader(found);
  if (const std::optional<YAML::Node> root = LoadYaml(text, found)) {
    try {
      if (!root->IsNull()) reader.ReadMessage(*root, spec, "");
      reader.NumberLines(false);
      for (const std::string& assignment : overrides) ApplyOverride(assignment, reader, spec, found);
    } catch (const YAML::Exception& error) {
      found.push_back({"", error.mark.line + 1, absl::StrCat("not readable as YAML or JSON: ", error.msg)});
    }
    for (FieldMistake& mistake : ValidateJobSpec(spec)) {
      if (HasMistakeAt(found, mistake.field)) continue;
      mistake.line = reader.LineOf(mistake.field);
      found.push_back(std::move(mistake));
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const FieldMistake& a, const FieldMistake& b) {
    return b.line == 0 ? a.line != 0 : a.line != 0 && a.line < b.line;  // those without a line come last
  });
  mistakes.insert(mistakes.end(), found.begin(), found.end());
  return spec;
}

}  // namespace ithaca
