#include "model/model_kind.h"

#include "base/error.h"

namespace cortex {

std::string_view name_of(ModelKind kind) {
  switch (kind) {
    case ModelKind::chat:
      return "chat";
    case ModelKind::embed:
      return "embed";
    case ModelKind::rerank:
      return "rerank";
    case ModelKind::classify:
      return "classify";
  }
  check_failed("a ModelKind of the enumeration", __FILE__, __LINE__);
}

std::optional<ModelKind> model_kind_of(std::string_view name) {
  for (const ModelKind kind : {ModelKind::chat, ModelKind::embed, ModelKind::rerank, ModelKind::classify}) {
    if (name_of(kind) == name) return kind;
  }
  return std::nullopt;
}

}  // namespace cortex
