#include "core/programs/weights.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/programs/graph_json.h"

namespace evoke {

using nlohmann::json;

// Weights may share their records, and a record may stand for many equal numbers: not without end.
Weights::Weights(const Archive& archive, const std::string& program)
    : archive_(archive), room_((int64_t{1} << 28) + 16 * static_cast<int64_t>(archive.bytes())) {
  weights_ = parsed_record(archive, "data/weights/" + program + "_weights_config.json").at("config");
  const std::string constants = "data/constants/" + program + "_constants_config.json";
  constants_ = archive.has(constants) ? parsed_record(archive, constants).at("config") : json::object();
}

Tensor Weights::read(const std::string& key, bool constant) {
  const bool among_weights = !constant && weights_.contains(key);
  const json& config = among_weights ? weights_ : constants_;
  const auto found = config.find(key);
  if (found == config.end()) torn(archive_.file(), "the weight '" + key + "' is missing");
  require(!found->at("use_pickle").get<bool>(), Failure::input, archive_.file(), ": the weight '", key,
          "' is pickled (a tensor of a special class), which evoke does not execute; turn it into a plain tensor in Python and export "
          "again");
  return stored((among_weights ? "data/weights/" : "data/constants/") + found->at("path_name").get<std::string>(),
                found->at("tensor_meta"));
}

Tensor Weights::stored(const std::string& record, const json& meta) {
  const std::string where = archive_.file() + ": " + record;
  std::vector<int64_t> sizes, strides;
  for (const json& size : meta.at("sizes")) sizes.push_back(size_of(size));
  for (const json& stride : meta.at("strides")) strides.push_back(size_of(stride));
  const int64_t offset = size_of(meta.at("storage_offset"));
  const at::ScalarType type = type_numbered(whole(meta.at("dtype")), where);
  const auto bytes_each = static_cast<int64_t>(c10::elementSize(type));
  require(whole(meta.at("layout")) == 7, Failure::input, where, ": found a sparse tensor, expected a dense one; densify it in Python");

  const uint64_t size = archive_.size(record);
  // The last element's place, in steps that cannot overflow.
  const auto most = static_cast<int64_t>(size) / bytes_each;
  bool fits = sizes.size() == strides.size() && sizes.size() <= 64 && offset >= 0 && offset <= most;
  int64_t last = offset, count = 1;
  for (size_t i = 0; fits && i < sizes.size(); ++i) {
    fits = sizes[i] >= 0 && strides[i] >= 0;
    if (!fits || sizes[i] == 0) {
      count = 0;
      continue;
    }
    fits = strides[i] == 0 || sizes[i] - 1 <= most / strides[i];
    if (fits) last += (sizes[i] - 1) * strides[i];
    fits = fits && last <= most && count <= room_ / sizes[i];
    if (fits) count *= sizes[i];
  }
  fits = fits && (count == 0 || (last < most && count <= room_ / bytes_each));
  require(fits, Failure::input, where, ": found ", size, " bytes, expected enough for a tensor ", shape_text(sizes), " of ",
          c10::toString(type), " with strides ", shape_text(strides), " from element ", offset, "; the file is torn or forged");

  room_ -= count * bytes_each;
  if (count == 0) return at::empty(sizes, type);
  const Tensor bytes = at::empty({static_cast<int64_t>(size)}, at::kByte);
  archive_.read(record, bytes.data_ptr());
  // Views of a storage that several tensors share are copied: nobody writes to weights here.
  return bytes.slice(0, 0, most * bytes_each).view(type).as_strided(sizes, strides, offset).clone(at::MemoryFormat::Preserve);
}

}  // namespace evoke
