#include "core/nouns/nouns.h"

namespace evoke {

const Layer& layer_named(const Classifier& classifier, const std::string& name, std::string_view where, Failure kind) {
  std::vector<std::string> names;
  for (const Layer& layer : classifier.layers) {
    if (layer.name == name) return layer;
    names.push_back(layer.name);
  }
  fail(kind, where, ": classifier ", classifier.name, " has no layer '", name, "'", did_you_mean(name, names));
}

}  // namespace evoke
