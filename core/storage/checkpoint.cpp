#include <ATen/ATen.h>

#include "core/error.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

const std::string fact_prefix = "fact.", layout_key = "evoke.channels_last";

}  // namespace

void save_checkpoint(const std::string& file, const Checkpoint& checkpoint) {
  SafeTensors content;
  content.metadata = {{"evoke.format", "checkpoint"}, {"evoke.version", "1"}};
  for (const auto& [key, value] : checkpoint.facts) content.metadata[fact_prefix + key] = value;

  // The memory order is part of the state: another order makes other kernels, which round otherwise.
  std::string channels_last;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    require(tensor.defined(), Failure::runtime, file, ": tensor '", name, "' cannot be saved: it holds nothing");
    if (!tensor.is_contiguous() && tensor.dim() == 4 && tensor.is_contiguous(at::MemoryFormat::ChannelsLast)) channels_last += name + "\n";
    content.tensors[name] = tensor.detach().to(at::kCPU).contiguous();
  }
  if (!channels_last.empty()) content.metadata[layout_key] = channels_last;
  save_safetensors(file, content);
}

Checkpoint load_checkpoint(const std::string& file) {
  const SafeTensors content = load_safetensors(file);
  const auto& facts = content.metadata;
  const auto fact = [&](const std::string& key) { return facts.contains(key) ? facts.at(key) : std::string(); };
  require(fact("evoke.format") == "checkpoint", Failure::input, file, ": found no checkpoint, expected one that this program saved");
  require(fact("evoke.version") == "1", Failure::input, file, ": found a checkpoint of version '", fact("evoke.version"),
          "', expected 1; start the run anew");
  require(content.checked, Failure::input, file, ": found no checksum in it: the file is damaged; delete it to start the run anew");

  Checkpoint out;
  for (const auto& [key, value] : facts)
    if (key.starts_with(fact_prefix)) out.facts[key.substr(fact_prefix.size())] = value;
  const std::string channels_last = "\n" + fact(layout_key);
  for (const auto& [name, tensor] : content.tensors)
    out.tensors[name] =
        channels_last.find("\n" + name + "\n") == std::string::npos ? tensor : tensor.contiguous(at::MemoryFormat::ChannelsLast);
  return out;
}

}  // namespace evoke
