#include "core/programs/script_module.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/serialization/import_source.h>
#include <torch/csrc/jit/serialization/storage_context.h>
#include <torch/csrc/jit/serialization/unpickler.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "core/numbers/tensor.h"
#include "core/programs/checks.h"
#include "core/programs/pickle.h"

namespace evoke {

namespace {

namespace jit = torch::jit;
using c10::IValue;

constexpr uint64_t oldest = 3;  // files before torch 1.5 do not say the types of their lists

// The unpickler takes sizes, strides and offset as the file gives them.
void check_tensor(const at::Tensor& tensor, const std::string& where) {
  if (!tensor.defined()) return;
  require(tensor.layout() == at::kStrided && !tensor.is_quantized() && tensor.is_cpu(), Failure::input, where, ": found a tensor of kind ",
          tensor.toString(), ", expected dense ones that are not quantized");
  const auto most = static_cast<int64_t>(tensor.storage().nbytes() / tensor.element_size());
  bool fits = tensor.dim() <= 64 && tensor.storage_offset() >= 0 && tensor.storage_offset() <= most;
  // The last element's place, in steps that cannot overflow.
  int64_t last = tensor.storage_offset(), count = 1;
  for (int64_t d = 0; fits && d < tensor.dim(); ++d) {
    const int64_t size = tensor.size(d), stride = tensor.stride(d);
    fits = size >= 0 && stride >= 0;
    if (!fits || size == 0) {
      count = 0;
      continue;
    }
    fits = (stride == 0 || size - 1 <= most / stride) && count <= most_numbers / size;
    if (fits) last += (size - 1) * stride, count *= size;
    fits = fits && last <= most;
  }
  require(fits && (count == 0 || last < most), Failure::input, where, ": found ", tensor.storage().nbytes(),
          " bytes, expected enough for a tensor ", shape_text(tensor.sizes()), " of ", c10::toString(tensor.scalar_type()),
          " with strides ", shape_text(tensor.strides()), "; the file is torn or forged");
}

// Of a value and all that it is made of.
void check_tensors(const IValue& root, const std::string& where) {
  std::vector<IValue> open{root};
  std::unordered_set<const void*> seen;
  while (!open.empty()) {
    const IValue value = open.back();
    open.pop_back();
    if (value.isTensor()) {
      check_tensor(value.toTensor(), where);
      continue;
    }
    if (!value.isPtrType() || !seen.insert(value.internalToPointer()).second) continue;
    if (value.isTuple()) {
      for (const IValue& part : value.toTupleRef().elements()) open.push_back(part);
    } else if (value.isList()) {
      for (const IValue& part : value.toListRef()) open.push_back(part);
    } else if (value.isGenericDict()) {
      for (const auto& entry : value.toGenericDict()) open.push_back(entry.key()), open.push_back(entry.value());
    } else if (value.isObject()) {
      for (const IValue& part : value.toObjectRef().slots()) open.push_back(part);
    }
  }
}

class Importer {
 public:
  explicit Importer(const Archive& archive)
      : archive_(archive), unit_(std::make_shared<jit::CompilationUnit>()), sources_(unit_, &constants_, loader(), archive.version()) {
    require(archive.version() >= oldest, Failure::input, archive.file(), ": was saved by a torch before 1.5, found version ",
            archive.version(), ", expected at least ", oldest, "; load and save it with a newer one");
    const IValue constants = unpickled("constants", at::kCPU);
    require(constants.isTuple(), Failure::input, archive.file(), ": its constants are no list; the file is torn or forged");
    constants_ = constants.toTupleRef().elements().vec();
  }

  IValue unpickled(const std::string& name, at::Device device) {
    const std::string where = archive_.file() + ": " + name + ".pkl", bytes = archive_.text(name + ".pkl");
    check_pickle(bytes, where);
    size_t at = 0;
    const auto reader = [&](char* to, size_t count) {
      count = std::min(count, bytes.size() - at);
      std::memcpy(to, bytes.data() + at, count);
      at += count;
      return count;
    };
    // The pickle says how many numbers a record holds, and LibTorch believes it: records are read here, as long as they are.
    const auto storages = std::make_shared<jit::DeserializationStorageContext>();
    for (const std::string& record : archive_.names())
      if (record.starts_with(name + "/")) {
        const uint64_t size = archive_.size(record);
        at::DataPtr data = c10::GetCPUAllocator()->allocate(size);
        archive_.read(record, data.get());
        storages->addStorage(record.substr(name.size() + 1),
                             c10::Storage(c10::Storage::use_byte_size_t(), size, std::move(data), nullptr, false));
      }
    const auto missing = [&](const std::string& record) -> at::DataPtr {
      fail(Failure::input, where, ": it has no ", one_line(name + "/" + record), "; the file is torn or forged");
    };
    const auto type = [this](const c10::QualifiedName& name) { return c10::StrongTypePtr(unit_, sources_.loadType(name)); };
    const auto object = [this](const c10::StrongTypePtr& type, const IValue& state) { return restored(type, state); };
    jit::Unpickler unpickler(reader, type, object, missing, device, false, checked_type, storages);
    unpickler.set_version(archive_.version());
    IValue out = unpickler.parse_ivalue();
    if (device.is_cpu()) check_tensors(out, where);
    return out;
  }

 private:
  jit::SourceLoader loader() {
    return [this](const std::string& qualifier) -> std::shared_ptr<jit::Source> {
      std::string name = "code/" + qualifier + ".py";
      std::replace(name.begin() + 5, name.end() - 3, '.', '/');
      if (!archive_.has(name)) return nullptr;
      const std::string code = archive_.text(name);
      check_nesting(code, archive_.file() + ": " + one_line(name));
      return std::make_shared<jit::Source>(code, name, 1);
    };
  }

  static c10::TypePtr checked_type(const std::string& name) {
    check_nesting(name, "a type's name");
    return jit::Unpickler::defaultTypeParser(name);
  }

  c10::intrusive_ptr<c10::ivalue::Object> restored(const c10::StrongTypePtr& type, const IValue& state) const {
    const auto written = type.type_->cast<c10::ClassType>();
    require(written != nullptr, Failure::input, archive_.file(), ": restores a value of type ", one_line(type.type_->str()),
            ", expected a module; the file is torn or forged");
    const std::string name = written->name() ? one_line(written->name()->name()) : "class";
    require(written->findMethod("__setstate__") == nullptr, Failure::input, archive_.file(), ": ", name,
            " restores itself by code of its own (__setstate__), which evoke does not run; save the network without it (not quantized)");
    require(state.isGenericDict(), Failure::input, archive_.file(), ": ", name, " holds no values; the file is torn or forged");
    const auto values = state.toGenericDict();
    auto out = c10::ivalue::Object::create(type, written->numAttributes());
    for (size_t i = 0; i < written->numAttributes(); ++i) {
      const std::string& key = written->getAttributeName(i);
      const auto found = values.find(key);
      require(found != values.end(), Failure::input, archive_.file(), ": ", name, " lacks its ", one_line(key),
              "; the file is torn or forged");
      const IValue value = found->value();
      require(value.type()->isSubtypeOf(*written->getAttribute(i)), Failure::input, archive_.file(), ": ", name, " has ",
              one_line(value.type()->str()), " for its ", one_line(key), ", expected ", one_line(written->getAttribute(i)->str()),
              "; the file is torn or forged");
      out->setSlot(i, value);
    }
    return out;
  }

  const Archive& archive_;
  std::shared_ptr<jit::CompilationUnit> unit_;
  std::vector<IValue> constants_;
  jit::SourceImporter sources_;
};

}  // namespace

jit::Module load_module(const Archive& archive, at::Device device) {
  Importer importer(archive);
  IValue root = importer.unpickled("data", at::kCPU);
  // Once more for another device, now that all of it is known to be sound.
  if (!device.is_cpu()) root = importer.unpickled("data", device);
  require(root.isObject() && root.type()->expect<c10::ClassType>()->is_module(), Failure::input, archive.file(),
          ": holds no module; expected a network");
  return jit::Module(root.toObject());
}

}  // namespace evoke
