#include "core/storage/safetensors.h"

#include <ATen/ATen.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

using json = nlohmann::json;

constexpr std::pair<std::string_view, at::ScalarType> types[] = {
    {"F32", at::kFloat}, {"F64", at::kDouble}, {"F16", at::kHalf}, {"BF16", at::kBFloat16},
    {"I64", at::kLong},  {"I32", at::kInt},    {"U8", at::kByte},  {"BOOL", at::kBool},
};
constexpr uint64_t longest_header = 100'000'000;
const std::string sum_key = "evoke.sha256";

// One hash over everything that a file holds: each text with its length, each tensor with its type, shape and bytes.
std::string checksum(const std::map<std::string, std::string>& metadata, const Tensors& tensors) {
  std::string all;
  const auto add = [&](const std::string& part) { all += text(part.size(), ":", part); };
  for (const auto& [key, value] : metadata)
    if (key != sum_key) {
      add(key);
      add(value);
    }
  for (const auto& [name, tensor] : tensors) {
    add(name);
    add(text(c10::toString(tensor.scalar_type()), shape_text(tensor.sizes())));
    add(sha256({static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()}));
  }
  return sha256(all);
}

// Where a tensor's bytes lie, after every check.
struct Place {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

// "[2,3]" for sentences; a foreign header may hold anything.
std::string shown(const json& value) { return value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80); }

// An entry of the header. `size`: bytes behind the header.
Place checked(const std::string& file, const std::string& name, const json& entry, uint64_t size) {
  const std::string where = text(file, ": tensor '", name, "'");
  require(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"), Failure::input, where,
          ": found ", shown(entry), ", expected dtype, shape and data_offsets");

  Place place{name, at::kFloat, {}, 0, 0};
  const auto* type = std::find_if(std::begin(types), std::end(types), [&](const auto& t) { return entry["dtype"] == t.first; });
  require(type != std::end(types), Failure::input, where, ": found dtype ", shown(entry["dtype"]),
          ", expected F32, F64, F16, BF16, I64, I32, U8 or BOOL");
  place.type = type->second;

  const json& shape = entry["shape"];
  require(shape.is_array() && shape.size() <= 16, Failure::input, where, ": found shape ", shown(shape), ", expected a list of sizes");
  uint64_t bytes = c10::elementSize(place.type), product = bytes;  // product: as if no size were 0, so that strides fit too
  for (const json& length : shape) {
    require(length.is_number_unsigned(), Failure::input, where, ": found shape ", shown(shape), ", expected whole numbers");
    const auto n = length.get<uint64_t>();
    require(n <= (uint64_t{1} << 62) && !__builtin_mul_overflow(product, std::max<uint64_t>(n, 1), &product) && product >> 62 == 0,
            Failure::input, where, ": found shape ", shown(shape), ", which no memory holds");
    bytes *= n;
    place.shape.push_back(static_cast<int64_t>(n));
  }

  const json& offsets = entry["data_offsets"];
  require(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(), Failure::input,
          where, ": found data_offsets ", shown(offsets), ", expected [begin, end]");
  place.begin = offsets[0].get<uint64_t>();
  place.end = offsets[1].get<uint64_t>();
  require(place.begin <= place.end && place.end <= size, Failure::input, where, ": found data_offsets ", shown(offsets),
          ", expected them within the ", size, " bytes behind the header; the file is truncated or foreign");
  require(place.end - place.begin == bytes, Failure::input, where, ": found ", place.end - place.begin, " bytes, expected ", bytes,
          " for shape ", shown(shape), " of ", type->first);
  return place;
}

// Duplicate names would hide a tensor behind another.
json parsed(const std::string& file, const std::string& header) {
  std::set<std::string> names;
  std::string twice;
  json document = json::parse(
      header,
      [&](int depth, json::parse_event_t event, json& value) {
        if (depth == 1 && event == json::parse_event_t::key && !names.insert(value.get<std::string>()).second) twice = value;
        return true;
      },
      /*allow_exceptions=*/false);
  require(document.is_object(), Failure::input, file, ": found a header that is no JSON object, expected a safetensors file");
  require(twice.empty(), Failure::input, file, ": found tensor '", twice, "' twice, expected each name once");
  return document;
}

}  // namespace

SafeTensors load_safetensors(const std::string& file) {
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  const int reason = errno;
  struct Facts {
    uint64_t header = 0, size = 0;
  } facts;
  in.seekg(0, std::ios::end);
  const std::streamoff length = in ? static_cast<std::streamoff>(in.tellg()) : -1;
  require(length >= 0 && length < std::numeric_limits<std::streamoff>::max(), Failure::input, file, ": cannot be read (",
          std::strerror(reason ? reason : EISDIR), "); expected a safetensors file there");
  facts.size = static_cast<uint64_t>(length);

  // The header's length is the first thing a foreign file gets wrong.
  require(facts.size >= 10, Failure::input, file, ": found ", facts.size,
          " bytes, expected a safetensors file; it is truncated or foreign");
  in.seekg(0);
  unsigned char first[8];
  in.read(reinterpret_cast<char*>(first), 8);
  for (int i = 7; i >= 0; --i) facts.header = facts.header << 8 | first[i];
  require(facts.header >= 2 && facts.header <= facts.size - 8 && facts.header <= longest_header, Failure::input, file,
          ": found a header of ", facts.header, " bytes in a file of ", facts.size, "; it is truncated or no safetensors file");
  std::string header(facts.header, '\0');
  in.read(header.data(), static_cast<std::streamsize>(header.size()));
  require(in.good(), Failure::input, file, ": cannot be read");
  const json document = parsed(file, header);

  SafeTensors out;
  std::vector<Place> places;
  for (const auto& [name, entry] : document.items()) {
    if (name != "__metadata__") {
      places.push_back(checked(file, name, entry, facts.size - 8 - facts.header));
      continue;
    }
    require(entry.is_object(), Failure::input, file, ": found __metadata__ ", shown(entry), ", expected text by name");
    for (const auto& [key, value] : entry.items()) {
      require(value.is_string(), Failure::input, file, ": found __metadata__ '", key, "' ", shown(value), ", expected text");
      out.metadata[key] = value.get<std::string>();
    }
  }

  // Tensors lie side by side and fill the file; nothing is allocated before that is known.
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  uint64_t at = 0;
  for (const Place& place : places) {
    require(place.begin >= at, Failure::input, file, ": tensor '", place.name, "' begins at byte ", place.begin,
            ", inside the one before it, which ends at ", at, "; expected tensors that do not overlap");
    require(place.begin == at, Failure::input, file, ": found ", place.begin - at, " bytes before tensor '", place.name,
            "' that belong to none; the file is foreign or torn");
    at = place.end;
  }
  const uint64_t behind = facts.size - 8 - facts.header;
  require(at == behind, Failure::input, file, ": found ", behind - at, " bytes behind the last tensor that belong to none");

  for (const Place& place : places) {
    const bool truth = place.type == at::kBool;
    const Tensor tensor = at::empty(place.shape, truth ? at::kByte : place.type);
    in.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(place.end - place.begin));
    require(in.good(), Failure::input, file, ": tensor '", place.name, "' cannot be read");
    out.tensors[place.name] = truth ? tensor.to(at::kBool) : tensor;
  }

  if (const auto sum = out.metadata.find(sum_key); sum != out.metadata.end()) {
    require(sum->second == checksum(out.metadata, out.tensors), Failure::input, file,
            ": its checksum does not fit its content: the file is damaged; fetch it again, or delete it to have it made anew");
    out.metadata.erase(sum);
    out.checked = true;
  }
  return out;
}

void save_safetensors(const std::string& file, const SafeTensors& content) {
  json document = json::object();
  uint64_t at = 0;
  Tensors tensors;
  for (const auto& [name, given] : content.tensors) {
    require(given.defined() && name != "__metadata__", Failure::runtime, file, ": tensor '", name, "' cannot be saved: it holds nothing");
    const Tensor tensor = given.detach().to(at::kCPU).contiguous();
    const auto* type = std::find_if(std::begin(types), std::end(types), [&](const auto& t) { return tensor.scalar_type() == t.second; });
    require(type != std::end(types), Failure::runtime, file, ": tensor '", name, "' cannot be saved: found ",
            c10::toString(tensor.scalar_type()), ", expected float, integer (32 or 64 bits), byte or bool");
    document[name] = {{"dtype", type->first}, {"shape", tensor.sizes().vec()}, {"data_offsets", {at, at + tensor.nbytes()}}};
    at += tensor.nbytes();
    tensors[name] = tensor;
  }
  document["__metadata__"] = content.metadata;
  document["__metadata__"][sum_key] = checksum(content.metadata, tensors);

  std::string header = document.dump();
  header.resize((header.size() + 7) / 8 * 8, ' ');  // tensors begin at a multiple of 8
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  bytes.reserve(8 + header.size() + at);
  bytes += header;
  for (const auto& [name, tensor] : tensors) bytes.append(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
  write_file(file, bytes);
}

void save_weights(const std::string& file, const std::string& kind, const std::string& options, const Tensors& weights,
                  std::map<std::string, std::string> more) {
  more["evoke.format"] = "weights";
  more["evoke.version"] = "1";
  more["evoke.kind"] = kind;
  more["evoke.options"] = options;
  save_safetensors(file, {weights, std::move(more)});
}

SafeTensors load_weights(const std::string& file, const std::vector<std::string>& kinds) {
  SafeTensors content = load_safetensors(file);
  auto& facts = content.metadata;
  require(facts["evoke.format"] == "weights", Failure::input, file, ": found no evoke.format = \"weights\" in its metadata",
          facts["evoke.format"].empty() ? "" : " but \"" + facts["evoke.format"] + "\"", ", expected weights written by evoke train");
  require(facts["evoke.version"] == "1", Failure::input, file, ": found weights of version '", facts["evoke.version"],
          "', expected 1; this program is older than the file");
  require(content.checked, Failure::input, file,
          ": found weights without the checksum that evoke writes; the file is damaged or older than this program: train it again");
  require(std::find(kinds.begin(), kinds.end(), facts["evoke.kind"]) != kinds.end(), Failure::input, file, ": found weights of kind '",
          facts["evoke.kind"], "', expected one of ", list_of(kinds));
  return content;
}

}  // namespace evoke
