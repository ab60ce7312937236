#include "core/programs/arguments.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/programs/graph_json.h"
#include "core/programs/size_arithmetic.h"

namespace evoke {

using c10::IValue;
using nlohmann::json;

Argument read_argument(const json& given, c10::TypePtr type, const ArgumentContext& context) {
  const std::string &file = context.file, &where = context.where;
  const auto& slot_of = context.slot_of;
  if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
  const auto [form, content] = tagged(given);
  Argument out;
  const bool wants_tensor = type->kind() == c10::TypeKind::TensorType, wants_float = type->kind() == c10::TypeKind::FloatType,
             wants_list = type->kind() == c10::TypeKind::ListType;
  const auto element = [&] { return type->castRaw<c10::ListType>()->getElementType()->kind(); };
  const auto constant = [&](IValue value) {
    if (wants_tensor && (value.isInt() || value.isDouble() || value.isBool())) value = as_tensor(value);
    if (wants_float && value.isInt()) value = static_cast<double>(value.toInt());
    if (wants_list && value.isInt())
      value = element() == c10::TypeKind::FloatType ? IValue(std::vector<double>{double(value.toInt())})
                                                    : IValue(std::vector<int64_t>{value.toInt()});
    if (wants_list && value.isDouble()) value = IValue(std::vector<double>{value.toDouble()});
    if (wants_list && value.isIntList() && element() == c10::TypeKind::FloatType) {
      std::vector<double> reals;
      for (const int64_t number : value.toIntVector()) reals.push_back(static_cast<double>(number));
      value = IValue(reals);
    }
    out.constant = std::move(value);
    return out;
  };
  const auto value_named = [&](const std::string& name) {
    out.kind = Argument::Kind::value;
    out.slots = {slot_of(name)};
    return out;
  };

  if (form == "as_none") return constant(IValue());
  if (form == "as_tensor") return value_named(content.at("name"));
  if (form == "as_int") return constant(whole(content));
  if (form == "as_bool") return constant(content.get<bool>());
  if (form == "as_float") return constant(real(content, file));
  if (form == "as_string") return constant(content.get<std::string>());
  if (form == "as_ints") {
    if (wants_list && content.empty() && element() == c10::TypeKind::FloatType) return constant(IValue(std::vector<double>{}));
    if (wants_list && content.empty() && element() == c10::TypeKind::TensorType) return constant(IValue(std::vector<Tensor>{}));
    std::vector<int64_t> numbers;
    for (const json& one : content) numbers.push_back(whole(one));
    return constant(std::move(numbers));
  }
  if (form == "as_floats") {
    std::vector<double> reals;
    for (const json& number : content) reals.push_back(real(number, file));
    return constant(IValue(reals));
  }
  if (form == "as_bools") {
    c10::List<bool> bools;
    for (const json& one : content) bools.push_back(one.get<bool>());
    return constant(IValue(bools));
  }
  if (form == "as_scalar_type") return constant(static_cast<int64_t>(type_numbered(whole(content), file + ": " + where)));
  if (form == "as_device") return constant(IValue(context.device));
  if (form == "as_layout") {
    require(whole(content) == 7, Failure::input, file, ": ", where, ": found a sparse layout, expected a dense one");
    return constant(static_cast<int64_t>(at::kStrided));
  }
  if (form == "as_memory_format") {
    static const std::map<int64_t, at::MemoryFormat> formats{{1, at::MemoryFormat::Contiguous},
                                                             {2, at::MemoryFormat::ChannelsLast},
                                                             {3, at::MemoryFormat::ChannelsLast3d},
                                                             {4, at::MemoryFormat::Preserve}};
    const auto found = formats.find(whole(content));
    if (found == formats.end()) torn(file, where + " has an unknown memory format");
    return constant(static_cast<int64_t>(found->second));
  }
  if (form == "as_sym_int" || form == "as_sym_float" || form == "as_sym_bool") {
    out.number = wants_tensor;
    if (content.contains("as_name")) return value_named(content.at("as_name"));
    if (content.contains("as_int")) return constant(whole(content.at("as_int")));
    if (content.contains("as_bool")) return constant(content.at("as_bool").get<bool>());
    return constant(real(content.at("as_float"), file));
  }
  if (form == "as_sym_ints") {
    out.kind = Argument::Kind::numbers;
    for (const json& one : content) {
      const bool named = one.contains("as_name");
      out.slots.push_back(named ? slot_of(one.at("as_name")) : -1);
      out.numbers.push_back(named ? 0 : whole(one.at("as_int")));
    }
    return out;
  }
  if (form == "as_tensors") {
    out.kind = Argument::Kind::tensors;
    out.optional = wants_list && element() == c10::TypeKind::OptionalType;
    for (const json& one : content) out.slots.push_back(slot_of(one.at("name")));
    return out;
  }
  if (form == "as_optional_tensor") {
    if (content.contains("as_none")) return constant(IValue());
    return value_named(content.at("as_tensor").at("name"));
  }
  if (form == "as_optional_tensors") {
    out.kind = Argument::Kind::tensors;
    out.optional = true;
    for (const json& one : content) out.slots.push_back(one.contains("as_tensor") ? slot_of(one.at("as_tensor").at("name")) : -1);
    return out;
  }
  fail(Failure::input, file, ": ", where, ": found an argument of form ", form,
       ", which evoke does not read; export the network without it");
}

namespace {

// Types, layouts and memory formats are numbers to LibTorch, which it trusts.
void check_disguised(const c10::Argument& expected, const std::string& form, const ArgumentContext& context) {
  c10::TypePtr type = expected.real_type();
  if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
  const char* wanted = type->kind() == c10::TypeKind::ScalarTypeType     ? "as_scalar_type"
                       : type->kind() == c10::TypeKind::LayoutType       ? "as_layout"
                       : type->kind() == c10::TypeKind::MemoryFormatType ? "as_memory_format"
                                                                         : nullptr;
  if (wanted != nullptr && form != "as_none" && form != wanted)
    torn(context.file, context.where + " is " + form + " where " + wanted + " belongs");
}

// A schema says how long a list is; kernels read so many. One number may stand for all, but not of paddings.
void check_length(const c10::Argument& expected, const c10::FunctionSchema& schema, const Argument& last, const ArgumentContext& context) {
  if (!expected.N() || *expected.N() < 2 || (last.kind == Argument::Kind::constant && !last.constant.isList())) return;
  const size_t wanted = static_cast<size_t>(*expected.N());
  const size_t found = last.kind == Argument::Kind::constant ? last.constant.toListRef().size() : last.slots.size();
  const bool all = schema.name().find("_pad") != std::string::npos;
  if (found != wanted && (all || (found != 1 && !(found == 0 && expected.default_value()))))
    torn(context.file, text(context.where, " has ", found, " numbers where ", wanted, " belong"));
}

}  // namespace

void read_arguments(const json& node, const ArgumentContext& context, Instruction& instruction) {
  std::map<std::string, const json*> given;
  for (const json& input : node.at("inputs")) given[input.at("name").get<std::string>()] = &input.at("arg");
  const c10::FunctionSchema& schema = instruction.operation->schema();
  size_t used = 0;
  for (const c10::Argument& expected : schema.arguments()) {
    require(!expected.is_out(), Failure::input, context.file, ": ", context.where,
            ": evoke does not run operators that write where they are told (out=); "
            "export the network with torch.export.export");
    const auto found = given.find(expected.name());
    if (found == given.end()) {
      if (!expected.default_value()) torn(context.file, context.where + " lacks its argument '" + expected.name() + "'");
      Argument filled;
      filled.constant = *expected.default_value();
      instruction.arguments.push_back(filled);
      continue;
    }
    ++used;
    const ArgumentContext here{context.file, context.where + ", argument '" + expected.name() + "'", context.device, context.slot_of};
    instruction.arguments.push_back(read_argument(*found->second, expected.type(), here));
    check_disguised(expected, tagged(*found->second).first, here);
    check_length(expected, schema, instruction.arguments.back(), here);
    if (expected.alias_info() && expected.alias_info()->isWrite())
      for (const int slot : instruction.arguments.back().slots)
        if (slot >= 0) instruction.mutated.push_back(slot);
  }
  if (used != given.size()) torn(context.file, context.where + " has arguments that the operator does not take");
}

}  // namespace evoke
