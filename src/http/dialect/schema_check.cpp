#include "http/dialect/schema_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "http/error_reply.h"

namespace cortex {
namespace {

void check_type(const JsonValue& type) {
  constexpr std::array kTypes = {"null", "boolean", "object", "array", "number", "integer", "string"};
  const auto check_one = [&](const JsonValue& one) {
    if (!one.is_string()) throw one.error(ErrorCode::invalid_schema, "the name of a type is wanted");
    const std::string name = one.string();
    if (std::find(kTypes.begin(), kTypes.end(), name) != kTypes.end()) return;
    throw one.error(ErrorCode::invalid_schema,
                    fmt::format("unknown type {}; one of {}", excerpt(name), fmt::join(kTypes, ", ")));
  };
  if (!type.is_array()) return check_one(type);
  for (const JsonValue& one : type.items()) check_one(one);
}

void check_reference(const JsonValue& reference) {
  if (!reference.is_string()) throw reference.error(ErrorCode::invalid_schema, "a string is wanted");
  if (reference.string().starts_with('#')) return;
  throw reference.error(ErrorCode::unsupported_schema, "refers to another document; only \"#...\" can be read");
}

void check_required(const JsonValue& required) {
  if (!required.is_array()) throw required.error(ErrorCode::invalid_schema, "an array of names is wanted");
  for (const JsonValue& name : required.items()) {
    if (!name.is_string()) throw name.error(ErrorCode::invalid_schema, "a name is wanted");
  }
}

// A schema may also be true or false where it is a part of another.
void check_part(const JsonValue& schema) {
  if (schema.kind() != JsonKind::boolean) check_schema(schema);
}

void check_map(const JsonValue& schemas) {
  if (!schemas.is_object()) throw schemas.error(ErrorCode::invalid_schema, "an object of schemas is wanted");
  for (const auto& [name, schema] : schemas.members()) check_part(schema);
}

void check_list(const JsonValue& schemas) {
  if (!schemas.is_array()) throw schemas.error(ErrorCode::invalid_schema, "an array of schemas is wanted");
  for (const JsonValue& schema : schemas.items()) check_part(schema);
}

}  // namespace

void check_schema(const JsonValue& schema) {
  if (!schema.is_object()) throw schema.error(ErrorCode::invalid_schema, "a schema is an object");
  if (const auto type = schema.get("type")) check_type(*type);
  if (const auto reference = schema.get("$ref")) check_reference(*reference);
  if (const auto required = schema.get("required")) check_required(*required);
  if (const auto choices = schema.get("enum"); choices && !choices->is_array()) {
    throw choices->error(ErrorCode::invalid_schema, "an array of values is wanted");
  }
  for (const char* map : {"properties", "patternProperties", "$defs", "definitions"}) {
    if (const auto schemas = schema.get(map)) check_map(*schemas);
  }
  for (const char* list : {"anyOf", "oneOf", "allOf", "prefixItems"}) {
    if (const auto schemas = schema.get(list)) check_list(*schemas);
  }
  if (const auto items = schema.get("items")) items->is_array() ? check_list(*items) : check_part(*items);
  for (const char* part : {"additionalProperties", "additionalItems", "not", "contains"}) {
    if (const auto one = schema.get(part)) check_part(*one);
  }
}

}  // namespace cortex
