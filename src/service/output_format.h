// What a client wants a reply to keep to. Plain values.
#pragma once

#include <string>

#include "engine/engine.h"

namespace cortex {

struct OutputFormat {
  GrammarSyntax syntax = GrammarSyntax::json_schema;
  std::string text;
  std::string param;  // of the request, that holds it
};

}  // namespace cortex
