// Decoders, denoisers and critics on disk.
#include <ATen/ATen.h>

#include "core/error.h"
#include "core/storage/safetensors.h"
#include "generators/critic.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"

namespace evoke {

namespace {

// Options as TOML: a recipe that is empty resolves to what the options held.
template <class Options>
std::string toml_of(const Options& options) {
  Recipe recipe = Recipe::parse("", ".");
  recipe.read("", options);
  return recipe.resolved();
}

template <class Options>
Options options_of(const SafeTensors& loaded, const std::string& file) {
  const auto found = loaded.metadata.find("evoke.options");
  require(found != loaded.metadata.end(), Failure::input, file, ": found no options beside the weights, expected 'evoke.options'");
  return Recipe::parse(found->second, ".", {}, file).template read<Options>("");
}

void add(Tensors& out, const std::string& prefix, const Tensors& tensors, bool half) {
  for (const auto& [name, tensor] : tensors) out[prefix + name] = tensor.detach().to(at::kCPU, half ? at::kHalf : at::kFloat).contiguous();
}

// The tensors whose names begin with `prefix`, without it, float32; taken out of `from`.
Tensors take(Tensors& from, const std::string& prefix) {
  Tensors out;
  for (auto it = from.lower_bound(prefix); it != from.end() && it->first.starts_with(prefix); it = from.erase(it)) {
    out[it->first.substr(prefix.size())] = it->second.is_floating_point() ? it->second.to(at::kFloat) : it->second;
  }
  return out;
}

Tensor take_one(Tensors& from, const std::string& name, at::IntArrayRef shape, const std::string& file) {
  const auto found = from.find(name);
  require(found != from.end(), Failure::input, file, ": found no tensor '", name, "', expected one; train it again");
  const Tensor out = found->second.to(at::kFloat);
  require_shape(out, shape, text(file, ": ", name));
  from.erase(found);
  return out;
}

void refuse_rest(const Tensors& rest, const std::string& file) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : rest) names.push_back(name);
  require(names.empty(), Failure::input, file, ": found tensors that belong to nothing: ", list_of(names), "; expected none");
}

}  // namespace

void save_decoder(const std::string& file, const Decoder& decoder, bool half) {
  Tensors out;
  add(out, "decoder.", decoder.decoder.weights, half);
  add(out, "encoder.", decoder.encoder.weights, half);
  add(out, "codes.", pack(decoder.codes), false);
  save_weights(file, decoder.kind, toml_of(decoder.options), out);
}

Decoder load_decoder(const std::string& file) {
  SafeTensors loaded = load_weights(file, decoder_kinds);
  Decoder out;
  out.kind = loaded.metadata.at("evoke.kind");
  out.options = options_of<DecoderOptions>(loaded, file);
  out.decoder = decoder_network(out.options, 0);
  out.decoder.load(take(loaded.tensors, "decoder."), file + ": decoder");

  const Tensors encoder = take(loaded.tensors, "encoder.");
  if (!encoder.empty() || out.kind == "autoencoder" || out.kind == "vae") {
    out.encoder = encoder_network(out.options, out.kind == "vae" ? 2 * out.options.code : out.options.code, 0);
    out.encoder.load(encoder, file + ": encoder");
  }
  out.codes = take_statistics(loaded.tensors, "codes.", code_shape(out.options), file);
  refuse_rest(loaded.tensors, file);
  return out;
}

void save_denoiser(const std::string& file, const Denoiser& denoiser, bool half) {
  Tensors out;
  add(out, "network.", denoiser.network.weights, half);
  add(out, "", {{"mean", denoiser.mean}, {"deviation", denoiser.deviation}}, false);
  save_weights(file, "denoiser", toml_of(denoiser.options), out);
}

Denoiser load_denoiser(const std::string& file) {
  SafeTensors loaded = load_weights(file, {"denoiser"});
  Denoiser out;
  out.options = options_of<DenoiserOptions>(loaded, file);
  out.network = denoiser_network(out.options, 0);
  out.network.load(take(loaded.tensors, "network."), file + ": denoiser");
  std::vector<int64_t> shape = row_shape(out.options);
  std::fill(shape.begin() + 1, shape.end(), 1);
  out.mean = take_one(loaded.tensors, "mean", shape, file);
  out.deviation = take_one(loaded.tensors, "deviation", shape, file);
  require((out.deviation > 0).all().item<bool>(), Failure::input, file,
          ": deviation: found a value that is not positive, expected all to be");
  refuse_rest(loaded.tensors, file);
  return out;
}

void save_critic(const std::string& file, const CriticNetwork& critic, bool half) {
  Tensors out;
  add(out, "network.", critic.network.weights, half);
  add(out, "", {{"mean", critic.mean}, {"deviation", critic.deviation}, {"center", critic.center}, {"spread", critic.spread}}, false);
  save_weights(file, "critic", toml_of(critic.options), out);
}

CriticNetwork load_critic(const std::string& file) {
  SafeTensors loaded = load_weights(file, {"critic"});
  CriticNetwork out = untrained_critic(options_of<CriticOptions>(loaded, file), 0);
  out.network.load(take(loaded.tensors, "network."), file + ": critic");
  for (const auto& [name, into] : {std::pair<const char*, Tensor*>{"mean", &out.mean},
                                   {"deviation", &out.deviation},
                                   {"center", &out.center},
                                   {"spread", &out.spread}})
    *into = take_one(loaded.tensors, name, into->sizes(), file);
  refuse_rest(loaded.tensors, file);
  return out;
}

}  // namespace evoke
