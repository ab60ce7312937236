// A .pt2 is a stored zip: models/NAME.json, a graph of ATen operators in the order they run, and the weights as raw little-endian numbers.
// Reading resolves every node to an operator of LibTorch and its arguments in the order of the operator's schema; running is then a loop
// over these instructions, through the dispatcher, so autograd sees what it would see of a network written by hand.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <caffe2/serialize/inline_container.h>

#include <torch/version.h>

#include <cmath>
#include <deque>
#include <fstream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/program.h"

namespace evoke {

namespace {

using c10::IValue;
using nlohmann::json;

// ---- What is run.

// One argument of an operator. Slots are where values lie while the program runs.
struct Argument {
  enum class Kind { constant, value, numbers, tensors } kind = Kind::constant;
  IValue constant;
  std::vector<int> slots;        // value: one; lists: one an element, -1 where the element is a number (or no tensor)
  std::vector<int64_t> numbers;  // of a list of integers
  bool optional = false;         // a list whose tensors may be missing
  bool number = false;           // a size where the operator wants a tensor
};

struct Instruction {
  std::optional<c10::OperatorHandle> operation;
  IValue (*arithmetic)(const std::vector<IValue>&) = nullptr;  // of sizes, where there is no operation
  std::vector<Argument> arguments;
  std::vector<std::vector<int>> results;  // slots; more than one in an entry: the operator gives a list
  std::vector<int> mutated;               // slots that it writes to
  void (*check)(const std::vector<IValue>&) = nullptr;  // of what the operator would trust
  bool gradient = true;                   // off inside of torch.no_grad
  std::string where;                      // for errors
};

// A tensor that the file knows of.
struct Described {
  std::vector<int64_t> shape;  // hints where a size is free
  std::string rows;            // the first size, as text
  at::ScalarType type = at::kFloat;
};

struct Tap {
  std::string name, type;
  int slot = -1, made = -1;  // made: the instruction
  bool rowed = true;
  std::vector<int64_t> shape;
};

struct Body {
  std::string file;
  std::vector<Instruction> instructions;
  std::vector<std::pair<int, Tensor>> weights;  // slot, value
  std::vector<int> inputs;
  std::vector<bool> written_inputs;  // the program writes into what it is given
  int slots = 0;
  bool fold = false;  // batch norms may go into the convolutions before them
  std::vector<Tap> taps;
  std::map<std::string, size_t> tap_of;  // name -> taps
};

// ---- Reading the archive.

[[noreturn]] void torn(const std::string& file, const std::string& what) {
  fail(Failure::input, file, ": ", what, "; expected a program that torch.export.save wrote (torch 2.8 or later)");
}

// More than any network has, and few enough to be read in seconds.
constexpr size_t most_nodes = 1'000'000;
constexpr uint64_t most_json = uint64_t{1} << 27;  // bytes; parsed, they are some twenty times as many
#ifdef EVOKE_MOST_NUMBERS  // a fuzzer has less time
constexpr int64_t most_numbers = EVOKE_MOST_NUMBERS;
#else
constexpr int64_t most_numbers = int64_t{1} << 34;  // in one value
#endif

// A sentence of what is in a file or came from a library: one line without control characters, not too long.
std::string one_line(std::string sentence) {
  sentence = sentence.substr(0, sentence.find('\n', 1));
  for (char& c : sentence)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return sentence.size() <= 1000 ? sentence : sentence.substr(0, 1000) + "…";
}

// Discarded where it is no JSON.
json parsed_text(std::string_view content, const std::string& file, const std::string& name) {
  // The parser's values nest: so deep a file would exhaust the stack when it is walked.
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < content.size(); ++i) {
    const char c = content[i];
    if (quoted) {
      if (c == '\\') ++i;
      else if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 200) torn(file, name + " nests deeper than any network does");
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return json::parse(content, nullptr, false);
}

struct Archive {
  const std::string& file;
  caffe2::serialize::PyTorchStreamReader reader;
  uint64_t bytes;
  // Weights may share their records, and a record may stand for many equal numbers: not without end.
  int64_t room = (int64_t{1} << 28) + 16 * static_cast<int64_t>(bytes);

  std::pair<at::DataPtr, size_t> record(const std::string& name) {
    if (!reader.hasRecord(name)) torn(file, "it has no " + name);
    // Records are stored, so none is larger than the file: what claims to be is torn or compressed to exhaust memory.
    if (reader.getRecordSize(name) > bytes) torn(file, name + " claims to be larger than the file");
    auto [data, size] = reader.getRecord(name);
    return {std::move(data), size};
  }

  json parsed(const std::string& name) {
    const auto [data, size] = record(name);
    if (size > most_json) torn(file, name + " is larger than any network's");
    json out = parsed_text({static_cast<const char*>(data.get()), size}, file, name);
    if (out.is_discarded()) torn(file, name + " is no JSON");
    return out;
  }
};

at::ScalarType type_numbered(int64_t number, const std::string& where) {
  static const std::map<int64_t, at::ScalarType> types{
      {1, at::kByte}, {2, at::kChar},   {3, at::kShort},         {4, at::kInt},           {5, at::kLong},           {6, at::kHalf},
      {7, at::kFloat}, {8, at::kDouble}, {9, at::kComplexHalf}, {10, at::kComplexFloat}, {11, at::kComplexDouble}, {12, at::kBool},
      {13, at::kBFloat16}};
  const auto found = types.find(number);
  require(found != types.end(), Failure::input, where, ": found numbers of type ", number,
          ", which evoke does not read; export the network in float32 (model.float())");
  return found->second;
}

// What the readers below throw, and load_pt2 makes a sentence of.
[[noreturn]] void misread(const std::string& found, const std::string& expected) {
  throw std::invalid_argument("found " + found + " where " + expected + " belongs");
}

int64_t whole(const json& number) {
  if (!number.is_number_integer() || (number.is_number_unsigned() && number.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())))
    misread(number.is_number() ? "a number that is not whole or too large" : number.type_name(), "a whole number");
  return number.get<int64_t>();
}
// {"as_tensor": …}: the form, and the content.
std::pair<std::string, const json&> tagged(const json& given) {
  if (!given.is_object() || given.empty()) misread(given.is_object() ? "nothing" : given.type_name(), "an argument");
  return {given.begin().key(), *given.begin()};
}
// The name in {"as_tensor": {"name": …}} and {"as_sym_int": {"as_name": …}}.
std::string name_in(const json& given) {
  const json& content = tagged(given).second;
  return (content.contains("name") ? content.at("name") : content.at("as_name")).get<std::string>();
}

// A size that is a number, or the hint of one that is free.
int64_t size_of(const json& size) {
  if (size.contains("as_int")) return whole(size.at("as_int"));
  const json& hint = size.at("as_expr").at("hint");
  return hint.is_null() ? 1 : whole(hint.at("as_int"));
}
bool is_free(const json& size) { return !size.contains("as_int"); }
std::string size_text(const json& size) {
  return is_free(size) ? size.at("as_expr").at("expr_str").get<std::string>() : std::to_string(whole(size.at("as_int")));
}

// A tensor of the file: its storage checked against what its shape needs before it is wrapped.
Tensor stored_tensor(Archive& archive, const std::string& name, const json& meta) {
  const std::string where = archive.file + ": " + name;
  std::vector<int64_t> sizes, strides;
  for (const json& size : meta.at("sizes")) sizes.push_back(size_of(size));
  for (const json& stride : meta.at("strides")) strides.push_back(size_of(stride));
  const int64_t offset = size_of(meta.at("storage_offset"));
  const at::ScalarType type = type_numbered(whole(meta.at("dtype")), where);
  const auto bytes_each = static_cast<int64_t>(c10::elementSize(type));
  require(whole(meta.at("layout")) == 7, Failure::input, where, ": found a sparse tensor, expected a dense one; densify it in Python");

  auto [data, size] = archive.record(name);
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
    fits = fits && last <= most && count <= archive.room / sizes[i];
    if (fits) count *= sizes[i];
  }
  fits = fits && (count == 0 || (last < most && count <= archive.room / bytes_each));
  require(fits, Failure::input, where, ": found ", size, " bytes, expected enough for a tensor ", shape_text(sizes), " of ",
          c10::toString(type), " with strides ", shape_text(strides), " from element ", offset, "; the file is torn or forged");

  archive.room -= count * bytes_each;
  if (count == 0) return at::empty(sizes, type);
  // Views of a storage that several tensors share are copied: nobody writes to weights here.
  auto holder = std::make_shared<at::DataPtr>(std::move(data));
  Tensor storage = at::from_blob(holder->get(), {most}, [holder](void*) {}, at::TensorOptions(type));
  return storage.as_strided(sizes, strides, offset).clone(at::MemoryFormat::Preserve);
}

// ---- Arithmetic of sizes: Python's, on integers where all are, on floats otherwise.

bool is_integer(const IValue& v) { return v.isInt() || v.isBool(); }
int64_t integer(const IValue& v) { return v.isBool() ? v.toBool() : v.toInt(); }
double real(const IValue& v) { return v.isDouble() ? v.toDouble() : static_cast<double>(integer(v)); }
bool truth(const IValue& v) { return v.isBool() ? v.toBool() : real(v) != 0; }

template <class OfIntegers, class OfReals>
IValue either(const std::vector<IValue>& v, OfIntegers of_integers, OfReals of_reals) {
  if (is_integer(v.at(0)) && is_integer(v.at(1))) return IValue(of_integers(integer(v[0]), integer(v[1])));
  return IValue(of_reals(real(v.at(0)), real(v.at(1))));
}
int64_t floor_quotient(int64_t a, int64_t b) {
  require(b != 0 && !(b == -1 && a == std::numeric_limits<int64_t>::min()), Failure::input, "a size is divided by ", b);
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}
int64_t whole_part(double value) {
  require(std::abs(value) < 0x1p63, Failure::input, "a size becomes ", value);
  return static_cast<int64_t>(value);
}
// Wraps around as two's complement does, without the undefined behaviour of signed overflow.
int64_t wrapped(uint64_t value) { return static_cast<int64_t>(value); }

// A number where an operator wants a tensor: of no dimension, and not deciding the result's type.
IValue as_tensor(const IValue& value) {
  if (value.isTensor()) return value;
  Tensor wrapped = value.isInt()    ? at::scalar_tensor(value.toInt(), at::kLong)
                   : value.isBool() ? at::scalar_tensor(value.toBool(), at::kBool)
                                    : at::scalar_tensor(value.toDouble(), at::kDouble);
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  return wrapped;
}

using Arithmetic = IValue (*)(const std::vector<IValue>&);
const std::map<std::string, Arithmetic>& arithmetic() {
  using V = const std::vector<IValue>&;
  static const std::map<std::string, Arithmetic> table{
      {"add", [](V v) { return either(v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) + uint64_t(b)); }, std::plus<double>()); }},
      {"sub", [](V v) { return either(v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(b)); }, std::minus<double>()); }},
      {"mul", [](V v) { return either(v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) * uint64_t(b)); }, std::multiplies<double>()); }},
      {"floordiv", [](V v) { return either(v, floor_quotient, [](double a, double b) { return std::floor(a / b); }); }},
      {"mod",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(floor_quotient(a, b)) * uint64_t(b)); },
             [](double a, double b) { return a - std::floor(a / b) * b; });
       }},
      {"truediv", [](V v) { return IValue(real(v.at(0)) / real(v.at(1))); }},
      {"pow", [](V v) { return either(v, [](int64_t a, int64_t b) { return whole_part(std::round(std::pow(double(a), double(b)))); }, [](double a, double b) { return std::pow(a, b); }); }},
      {"neg", [](V v) { return is_integer(v.at(0)) ? IValue(wrapped(-uint64_t(integer(v[0])))) : IValue(-real(v[0])); }},
      {"pos", [](V v) { return v.at(0); }},
      {"eq", [](V v) { return IValue(real(v.at(0)) == real(v.at(1))); }},
      {"ne", [](V v) { return IValue(real(v.at(0)) != real(v.at(1))); }},
      {"lt", [](V v) { return IValue(real(v.at(0)) < real(v.at(1))); }},
      {"le", [](V v) { return IValue(real(v.at(0)) <= real(v.at(1))); }},
      {"gt", [](V v) { return IValue(real(v.at(0)) > real(v.at(1))); }},
      {"ge", [](V v) { return IValue(real(v.at(0)) >= real(v.at(1))); }},
      {"and_", [](V v) { return IValue(truth(v.at(0)) && truth(v.at(1))); }},
      {"or_", [](V v) { return IValue(truth(v.at(0)) || truth(v.at(1))); }},
      {"not_", [](V v) { return IValue(!truth(v.at(0))); }},
      {"sym_not", [](V v) { return IValue(!truth(v.at(0))); }},
      {"sym_max", [](V v) { return real(v.at(0)) >= real(v.at(1)) ? v[0] : v[1]; }},
      {"sym_min", [](V v) { return real(v.at(0)) <= real(v.at(1)) ? v[0] : v[1]; }},
      {"sym_int", [](V v) { return IValue(whole_part(std::trunc(real(v.at(0))))); }},
      {"sym_float", [](V v) { return IValue(real(v.at(0))); }},
      {"trunc", [](V v) { return IValue(whole_part(std::trunc(real(v.at(0))))); }},
      {"floor", [](V v) { return IValue(whole_part(std::floor(real(v.at(0))))); }},
      {"ceil", [](V v) { return IValue(whole_part(std::ceil(real(v.at(0))))); }},
      {"sqrt", [](V v) { return IValue(std::sqrt(real(v.at(0)))); }},
  };
  return table;
}

// ---- What operators trust, checked before they are called; the arguments as the operator gets them.

using Check = void (*)(const std::vector<IValue>&);

const Tensor* tensor_at(const std::vector<IValue>& given, size_t i) {
  return i < given.size() && given[i].isTensor() && given[i].toTensor().defined() ? &given[i].toTensor() : nullptr;
}

// Weights and statistics of a norm: a number a channel.
void check_vectors(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  require(x != nullptr && x->dim() >= 2, Failure::input, "found an input without channels, expected [N,C,…]");
  for (size_t i = 1; i <= 4; ++i)
    if (const Tensor* vector = tensor_at(given, i))
      require(vector->dim() == 1 && vector->size(0) == x->size(1), Failure::input, "found weights ", shape_text(vector->sizes()), " for ", x->size(1),
              " channels");
}

void check_batch_norm(const std::vector<IValue>& given) {
  check_vectors(given);
  require(tensor_at(given, 3) != nullptr && tensor_at(given, 4) != nullptr, Failure::input, "found a batch norm without statistics of its own");
}
void check_instance_norm(const std::vector<IValue>& given) {
  check_vectors(given);
  require((tensor_at(given, 3) != nullptr && tensor_at(given, 4) != nullptr) || (given.at(5).isBool() && given[5].toBool()), Failure::input,
          "found an instance norm without statistics");
}

void check_group_norm(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  for (size_t i = 3; i <= 6; ++i) require(given.at(i).isInt(), Failure::input, "found sizes that are no numbers");
  require(x != nullptr && x->dim() >= 2, Failure::input, "found an input without channels, expected [N,C,…]");
  const int64_t pixels = x->size(0) * x->size(1) == 0 ? 0 : x->numel() / (x->size(0) * x->size(1));
  require(given[3].toInt() == x->size(0) && given[4].toInt() == x->size(1) && (given[5].toInt() == pixels || x->numel() == 0), Failure::input,
          "found an input ", shape_text(x->sizes()), " where the file says [", given[3].toInt(), ",", given[4].toInt(), ",", given[5].toInt(), "]");
}

void check_attention(const std::vector<IValue>& given) {
  const Tensor *q = tensor_at(given, 0), *k = tensor_at(given, 1), *v = tensor_at(given, 2), *mask = tensor_at(given, 5);
  bool fits = q != nullptr && k != nullptr && v != nullptr && q->dim() == 4 && k->dim() == 4 && v->dim() == 4;
  for (int d = 0; fits && d < 4; ++d)
    fits = (d == 2 || (q->size(d) == k->size(d) && q->size(d) == v->size(d))) && q->size(d) > 0 && k->size(d) > 0;
  fits = fits && k->size(2) == v->size(2) && q->scalar_type() == k->scalar_type() && q->scalar_type() == v->scalar_type();
  if (fits && mask != nullptr) {
    const std::vector<int64_t> whole{q->size(0), q->size(1), q->size(2), k->size(2)};
    fits = mask->dim() == 4 || mask->dim() == 2;
    for (int64_t d = 0; fits && d < mask->dim(); ++d)
      fits = mask->size(mask->dim() - 1 - d) == 1 || mask->size(mask->dim() - 1 - d) == whole[static_cast<size_t>(3 - d)];
  }
  require(fits, Failure::input, "found queries, keys, values or a mask whose shapes do not fit");
}

// Dimensions that are there, each once.
void check_transform(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  require(x != nullptr && given.at(1).isIntList(), Failure::input, "found no dimensions to transform");
  std::set<int64_t> seen;
  for (const int64_t dim : given[1].toIntVector())
    require(dim >= 0 && dim < x->dim() && seen.insert(dim).second, Failure::input, "found dimension ", dim, " of an input ", shape_text(x->sizes()));
  require(!seen.empty() && x->numel() > 0 && (given.size() < 4 || !given[3].isInt() || (given[3].toInt() > 0 && given[3].toInt() <= most_numbers)),
          Failure::input, "found nothing to transform");
}

// Windows, paddings and enlargements count in pixels; their products must not wrap around.
void check_window(const std::vector<IValue>& given) {
  const auto fits = [](int64_t number) { return std::abs(number) <= (int64_t{1} << 24); };
  const auto scales = [](double scale) { return !(scale > 0) || (scale >= 1e-6 && scale <= 1e6); };
  for (const IValue& value : given) {
    bool ok = true;
    if (value.isInt()) {
      ok = fits(std::max(value.toInt(), -std::numeric_limits<int64_t>::max()));
    } else if (value.isIntList()) {
      for (const int64_t number : value.toIntVector()) ok = ok && fits(std::max(number, -std::numeric_limits<int64_t>::max()));
    } else if (value.isDoubleList()) {
      for (const double scale : value.toDoubleVector()) ok = ok && scales(scale);
    } else if (value.isDouble()) {
      ok = scales(value.toDouble());
    }
    require(ok, Failure::input, "found a size or a scale that no network has");
  }
}

// Sizes and scales that agree: where a scale is given, pixels are looked up by it.
void check_upsample(const std::vector<IValue>& given) {
  check_window(given);
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 2 || !given[1].isIntList()) return;
  const std::vector<int64_t> sizes = given[1].toIntVector();
  for (size_t d = 0; d < sizes.size() && given.size() >= 2 + sizes.size(); ++d) {
    const IValue& scale = given[given.size() - sizes.size() + d];
    const auto dim = static_cast<int64_t>(2 + d);
    if (!scale.isDouble() || !(scale.toDouble() > 0) || x->dim() <= dim) continue;
    require(std::abs(std::floor(static_cast<double>(x->size(dim)) * scale.toDouble()) - static_cast<double>(sizes[d])) <= 1, Failure::input,
            "found a size of ", sizes[d], " for ", x->size(dim), " pixels at a scale of ", scale.toDouble());
  }
}

// Of whole numbers, a step of less than one is none, and divided by.
void check_arange(const std::vector<IValue>& given) {
  if (given.size() < 4 || !given[2].isDouble() || !given[3].isInt() || at::isFloatingType(static_cast<at::ScalarType>(given[3].toInt()))) return;
  require(std::abs(given[2].toDouble()) >= 1, Failure::input, "found whole numbers with a step of ", given[2].toDouble());
}

// The smallest whole number has no opposite: a processor stops there.
void check_division(const std::vector<IValue>& given) {
  const auto whole_type = [](const IValue& v) { return v.isInt() || (v.isTensor() && v.toTensor().defined() && !at::isFloatingType(v.toTensor().scalar_type())); };
  if (given.size() < 2 || !whole_type(given[0]) || !whole_type(given[1])) return;
  const auto holds = [](const IValue& v, int64_t number) {
    if (v.isInt()) return v.toInt() == number;
    const c10::NoGradGuard no_gradient;
    const Tensor& t = v.toTensor();
    return !t.is_complex() && t.numel() > 0 && t.to(at::kLong).eq(number).any().item<bool>();
  };
  const bool smallest = holds(given[0], std::numeric_limits<int64_t>::min()) || holds(given[0], std::numeric_limits<int32_t>::min());
  require(!smallest || !holds(given[1], -1), Failure::input, "found the smallest number divided by -1");
}

// A list of tensors takes memory for each.
void check_pieces(bool ok) { require(ok, Failure::input, "found a value cut into more pieces than any network has"); }
constexpr int64_t most_pieces = 1 << 16;

void check_unbind(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 2 || !given[1].isInt()) return;
  const int64_t dim = given[1].toInt() + (given[1].toInt() < 0 ? x->dim() : 0);
  check_pieces(dim < 0 || dim >= x->dim() || x->size(dim) <= most_pieces);
}
void check_split(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 3 || !given[1].isInt() || !given[2].isInt()) return;
  const int64_t dim = given[2].toInt() + (given[2].toInt() < 0 ? x->dim() : 0), each = given[1].toInt();
  check_pieces(dim < 0 || dim >= x->dim() || each <= 0 || x->size(dim) / each <= most_pieces);
}
void check_chunk(const std::vector<IValue>& given) {
  check_pieces(given.size() < 2 || !given[1].isInt() || given[1].toInt() <= most_pieces);
}

Check check_for(const std::string& name) {
  static const std::map<std::string, Check> table{
      {"batch_norm", check_batch_norm},
      {"native_batch_norm", check_batch_norm},
      {"_native_batch_norm_legit", check_batch_norm},
      {"_native_batch_norm_legit_no_training", check_batch_norm},
      {"instance_norm", check_instance_norm},
      {"native_group_norm", check_group_norm},
      {"_scaled_dot_product_flash_attention_for_cpu", check_attention},
      {"_fft_r2c", check_transform},
      {"_fft_c2r", check_transform},
      {"_fft_c2c", check_transform},
      {"arange", check_arange},
      {"floor_divide", check_division},
      {"div", check_division},
      {"divide", check_division},
      {"remainder", check_division},
      {"fmod", check_division},
      {"matrix_power", check_window},
      {"linalg_matrix_power", check_window},
      {"combinations", check_chunk},
      {"unbind", check_unbind},
      {"unbind_copy", check_unbind},
      {"split", check_split},
      {"split_copy", check_split},
      {"unsafe_split", check_split},
      {"chunk", check_chunk},
      {"unsafe_chunk", check_chunk},
      {"tensor_split", check_chunk},
      {"hsplit", check_chunk},
      {"vsplit", check_chunk},
      {"dsplit", check_chunk},
  };
  const auto found = table.find(name.ends_with('_') ? name.substr(0, name.size() - 1) : name);
  if (found != table.end()) return found->second;
  if (name.find("upsample") != std::string::npos) return check_upsample;
  for (const char* part : {"conv", "pool", "pad", "im2col", "col2im", "shuffle"})
    if (name.find(part) != std::string::npos && !name.starts_with("constant_pad") && name != "pad" && name != "pad_sequence") return check_window;
  return nullptr;
}

// Checks that exported networks carry for their own tracing; their outcome is never used.
bool is_check(const std::string& name) {
  return name.starts_with("_assert") || name.starts_with("sym_constrain_range") || name.starts_with("_check") || name == "_functional_assert_async";
}

// ---- From nodes to instructions.

class Reader {
 public:
  Reader(Archive& archive, Body& body, at::Device device, MemoryOrder order)
      : archive_(archive), body_(body), device_(device), order_(order) {}

  void read(const std::string& name, Program& program) {
    const json model = archive_.parsed("models/" + name + ".json");
    const json& module = model.at("graph_module");
    const json& graph = module.at("graph");
    std::unordered_map<std::string, int> scope;
    describe_tensors(graph);
    read_inputs(name, module.at("signature"), graph, scope, program);
    read_nodes(graph, scope, true);
    read_outputs(module, scope, program);
    name_taps(program);
  }

 private:
  using Scope = std::unordered_map<std::string, int>;

  int new_slot() { return body_.slots++; }

  int slot_of(const Scope& scope, const std::string& name, const std::string& where) const {
    const auto found = scope.find(name);
    if (found == scope.end()) torn(body_.file, where + " uses the value '" + name + "' before it is made");
    return found->second;
  }

  void describe_tensors(const json& graph) {
    for (const auto& [name, meta] : graph.at("tensor_values").items()) {
      Described tensor;
      for (const json& size : meta.at("sizes")) {
        tensor.shape.push_back(size_of(size));
        if (tensor.shape.back() < 0 || tensor.shape.back() > most_numbers) torn(body_.file, "'" + name + "' has a size of " + size.dump());
      }
      if (!tensor.shape.empty()) tensor.rows = size_text(meta.at("sizes").at(0));
      const int64_t type = whole(meta.at("dtype"));
      tensor.type = type >= 1 && type <= 13 ? type_numbered(type, body_.file) : at::kFloat;
      described_[name] = tensor;
    }
  }

  // Parameters, buffers and constants are read; what is left is what the caller gives.
  void read_inputs(const std::string& name, const json& signature, const json& graph, Scope& scope, Program& program) {
    const json weights = archive_.parsed("data/weights/" + name + "_weights_config.json").at("config");
    const std::string constants_name = "data/constants/" + name + "_constants_config.json";
    const json constants = archive_.reader.hasRecord(constants_name) ? archive_.parsed(constants_name).at("config") : json::object();
    const auto stored = [&](const json& config, const std::string& folder, const std::string& key) {
      const auto found = config.find(key);
      if (found == config.end()) torn(body_.file, "the weight '" + key + "' is missing");
      require(!found->at("use_pickle").get<bool>(), Failure::input, body_.file, ": the weight '", key,
              "' is pickled (a tensor of a special class), which evoke does not execute; turn it into a plain tensor in Python and export again");
      Tensor tensor = stored_tensor(archive_, folder + found->at("path_name").get<std::string>(), found->at("tensor_meta"));
      // Sampling never asks for their gradients, and on a CPU convolutions are faster on channels-last weights.
      tensor = tensor.to(device_);
      if (order_ == MemoryOrder::channels_last && tensor.dim() == 4) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
      return tensor;
    };

    for (const json& spec : signature.at("input_specs")) {
      const auto [kind, inner] = tagged(spec);
      if (kind == "user_input") {
        const json& argument = inner.at("arg");
        if (argument.contains("as_none")) continue;
        require(argument.contains("as_tensor"), Failure::input, body_.file,
                ": takes an input that is no tensor; wrap the network in a module whose forward takes tensors only, and export that");
        const std::string value = argument.at("as_tensor").at("name").get<std::string>();
        const int slot = new_slot();
        scope[value] = slot;
        input_at_[slot] = body_.inputs.size();
        body_.inputs.push_back(slot);
        // Sizes that are free are said so, for whoever gives the input.
        Port port{one_line(value), {}, described_.at(value).type};
        for (const json& size : graph.at("tensor_values").at(value).at("sizes")) port.shape.push_back(is_free(size) ? -1 : size_of(size));
        require(std::all_of(port.shape.begin(), port.shape.end(), [](int64_t size) { return size == -1 || (size > 0 && size <= most_numbers); }),
                Failure::input, body_.file, ": takes an input ", shape_text(port.shape), ", expected sizes of at least 1; export with a real picture");
        program.inputs.push_back(port);
        if (program.inputs.size() == 1) rows_ = described_.at(value).rows;
        continue;
      }
      require(kind == "parameter" || kind == "buffer" || kind == "tensor_constant", Failure::input, body_.file, ": takes a ", kind,
              ", which evoke does not run; wrap the network in a module that needs none, and export that");
      const std::string key = inner.at(kind == "parameter" ? "parameter_name" : kind == "buffer" ? "buffer_name" : "tensor_constant_name");
      // Buffers that are not part of the state dict lie with the constants.
      const bool among_weights = kind != "tensor_constant" && weights.contains(key);
      const Tensor tensor = stored(among_weights ? weights : constants, among_weights ? "data/weights/" : "data/constants/", key);
      require(key.size() <= 4096, Failure::input, body_.file, ": a weight has a name of ", key.size(), " letters, expected at most 4096");
      if (kind == "parameter") {
        parameters_[key] = tensor.numel();
        program.parameters += tensor.numel();
      }
      const int slot = new_slot();
      weight_names_[slot] = key;
      scope[inner.at("arg").at("name").get<std::string>()] = slot;
      body_.weights.emplace_back(slot, tensor);
    }
    require(!program.inputs.empty(), Failure::input, body_.file, ": takes no input; expected a network of images or codes");
  }

  void read_nodes(const json& graph, Scope& scope, bool gradient) {
    const json& nodes = graph.at("nodes");
    require(nodes.is_array() && nodes.size() + static_cast<size_t>(nodes_) <= most_nodes, Failure::input, body_.file, ": found ", nodes.size(),
            " nodes, expected at most ", most_nodes);
    for (const json& node : nodes) {
      const std::string target = node.at("target").get<std::string>();
      const std::string where = text("node ", ++nodes_, " (", target, ")");
      if (target.starts_with("torch.ops.higher_order."))
        read_wrapped(node, target, where, scope, gradient);
      else
        read_node(node, target, where, scope, gradient);
    }
  }

  // A wrapper around a subgraph is its nodes, in place.
  void read_wrapped(const json& node, const std::string& target, const std::string& where, Scope& scope, bool gradient) {
    const std::string kind = target.substr(std::string("torch.ops.higher_order.").size());
    const json& inputs = node.at("inputs");
    if (!inputs.is_array()) misread(inputs.type_name(), "a list of inputs");
    size_t graph_at = inputs.size();
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].at("arg").contains("as_graph")) {
        graph_at = i;
        break;
      }
    const bool of_gradients = kind == "wrap_with_set_grad_enabled", of_precision = kind == "wrap_with_autocast";
    require((of_gradients || of_precision) && graph_at < inputs.size(), Failure::input, body_.file, ": ", where, ": ",
            kind == "cond" || kind == "while_loop" || kind == "map_impl" || kind == "scan"
                ? "the network branches or loops on its data, which evoke does not run; export a part without control flow, or script it "
                  "(torch.jit.script)"
                : "evoke does not run this operator; export a network without it");
    if (of_gradients) gradient = gradient && inputs.at(0).at("arg").at("as_bool").get<bool>();
    if (of_precision)
      for (size_t i = 0; i < graph_at; ++i)
        if (inputs[i].at("arg").contains("as_bool"))
          require(i > 2 || !inputs[i].at("arg").at("as_bool").get<bool>(), Failure::input, body_.file, ": ", where,
                  ": the network turns autocast on; export it without autocast, in float32");
    const json& inner = inputs[graph_at].at("arg").at("as_graph").at("graph");
    require(++nested_ < 16, Failure::input, body_.file, ": ", where, " nests too deep");
    describe_tensors(inner);
    Scope inside;
    size_t next = graph_at + 1;
    for (const json& input : inner.at("inputs")) {
      if (next >= inputs.size()) torn(body_.file, where + " gives its subgraph too few values");
      const json& given = inputs[next++].at("arg");
      for (const auto& [form, content] : given.items())
        if (content.is_object())
          inside[name_in(input)] =
              slot_of(scope, (content.contains("name") ? content.at("name") : content.at("as_name")).get<std::string>(), where);
    }
    read_nodes(inner, inside, gradient);
    --nested_;

    // Its outputs under the names outside.
    std::vector<std::string> outside;
    for (const json& output : node.at("outputs")) {
      if (output.contains("as_tensors"))
        for (const json& one : output.at("as_tensors")) outside.push_back(one.at("name"));
      else
        outside.push_back(name_in(output));
    }
    const json& results = inner.at("outputs");
    if (outside.size() != results.size()) torn(body_.file, where + " and its subgraph disagree on how many values come out");
    for (size_t i = 0; i < outside.size(); ++i) scope[outside[i]] = slot_of(inside, name_in(results.at(i)), where);
  }

  void read_node(const json& node, const std::string& target, const std::string& where, Scope& scope, bool gradient) {
    Instruction instruction;
    instruction.where = where;
    instruction.gradient = gradient;

    // torch.ops.SPACE.NAME.OVERLOAD, or arithmetic of sizes.
    if (target.starts_with("torch.ops.")) {
      std::vector<std::string> parts;
      std::istringstream words(target.substr(10));
      for (std::string part; std::getline(words, part, '.');) parts.push_back(part);
      if (parts.size() < 2 || parts.size() > 3) torn(body_.file, where + " names no operator");
      const std::string overload = parts.size() == 3 && parts[2] != "default" ? parts[2] : "";
      if (parts[0] == "aten" && is_check(parts[1])) return;
      require(may_run(parts[0], parts[1]), Failure::input, body_.file, ": ", where, ": evoke does not run this operator, only those of aten that "
              "networks are made of; export the network without it",
              parts[0].starts_with("quant") ? " (before it is quantized)" : "");
      instruction.operation = c10::Dispatcher::singleton().findSchema({parts[0] + "::" + parts[1], overload});
      require(instruction.operation.has_value(), Failure::input, body_.file, ": ", where, ": this LibTorch has no such operator; export with torch ",
              TORCH_VERSION, " or a close one");
      resolve_arguments(node, where, scope, instruction);
      instruction.check = check_for(parts[1]);
      check_now(instruction);
    } else {
      const std::string name = target.substr(target.rfind('.') + 1);
      const auto found = arithmetic().find(name.starts_with("_sym_") ? name.substr(5) : name);
      require(found != arithmetic().end() && (target.starts_with("_operator.") || target.starts_with("torch.") || target.starts_with("math.")),
              Failure::input, body_.file, ": ", where, ": evoke does not run this function; export the network without it");
      instruction.arithmetic = found->second;
      for (const json& input : node.at("inputs"))
        instruction.arguments.push_back(argument(input.at("arg"), c10::NumberType::get(), where, scope));
    }
    refuse_training(node, target, where, instruction);

    const int made = static_cast<int>(body_.instructions.size());
    for (const json& output : node.at("outputs")) {
      std::vector<int> slots;
      const auto take = [&](const std::string& name) {
        slots.push_back(new_slot());
        scope[name] = slots.back();
        slot_names_[slots.back()] = name;
      };
      const auto [form, content] = tagged(output);
      if (form == "as_tensors") {
        for (const json& one : content) take(one.at("name"));
        lists_.insert(made);
      } else if (form == "as_optional_tensors") {
        for (const json& one : content) take(name_in(one));
        lists_.insert(made);
      } else if (form == "as_none") {
        slots.push_back(-1);
      } else if (content.is_object() && content.contains("name")) {
        take(content.at("name"));
      } else if (content.is_object() && content.contains("as_name")) {
        take(content.at("as_name"));
      } else {
        slots.push_back(-1);
      }
      instruction.results.push_back(slots);
    }
    follow_aliases(instruction);
    body_.instructions.push_back(std::move(instruction));
    note_modules(node, made);
  }

  // Windows are numbers, and mostly constant: looked at once, here, and not at every pass.
  void check_now(Instruction& instruction) const {
    if (instruction.check != check_window) return;
    const auto& expected = instruction.operation->schema().arguments();
    std::vector<IValue> constants;
    for (size_t i = 0; i < instruction.arguments.size(); ++i) {
      const Argument& argument = instruction.arguments[i];
      const bool tensors = expected[i].type()->str().find("Tensor") != std::string::npos;
      if (argument.kind != Argument::Kind::constant && !tensors) return;
      constants.push_back(argument.kind == Argument::Kind::constant ? argument.constant : IValue());
    }
    try {
      check_window(constants);
    } catch (const Error& error) {
      fail(Failure::input, body_.file, ": ", instruction.where, ": ", error.what());
    }
    instruction.check = nullptr;
  }

  // Arguments in the order of the schema, defaults filled in.
  void resolve_arguments(const json& node, const std::string& where, const Scope& scope, Instruction& instruction) {
    std::map<std::string, const json*> given;
    for (const json& input : node.at("inputs")) given[input.at("name").get<std::string>()] = &input.at("arg");
    const c10::FunctionSchema& schema = instruction.operation->schema();
    size_t used = 0;
    for (const c10::Argument& expected : schema.arguments()) {
      require(!expected.is_out(), Failure::input, body_.file, ": ", where, ": evoke does not run operators that write where they are told (out=); "
              "export the network with torch.export.export");
      const auto found = given.find(expected.name());
      if (found == given.end()) {
        if (!expected.default_value()) torn(body_.file, where + " lacks its argument '" + expected.name() + "'");
        Argument filled;
        filled.constant = *expected.default_value();
        instruction.arguments.push_back(filled);
        continue;
      }
      ++used;
      const std::string here = where + ", argument '" + expected.name() + "'";
      instruction.arguments.push_back(argument(*found->second, expected.type(), here, scope));
      check_disguised(expected, tagged(*found->second).first, here);
      check_length(expected, instruction, here);
      if (expected.alias_info() && expected.alias_info()->isWrite())
        for (const int slot : instruction.arguments.back().slots)
          if (slot >= 0) instruction.mutated.push_back(slot);
    }
    if (used != given.size()) torn(body_.file, where + " has arguments that the operator does not take");
  }

  // Types, layouts and memory formats are numbers to LibTorch, which it trusts.
  void check_disguised(const c10::Argument& expected, const std::string& form, const std::string& where) const {
    c10::TypePtr type = expected.real_type();
    if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
    const char* wanted = type->kind() == c10::TypeKind::ScalarTypeType     ? "as_scalar_type"
                         : type->kind() == c10::TypeKind::LayoutType       ? "as_layout"
                         : type->kind() == c10::TypeKind::MemoryFormatType ? "as_memory_format"
                                                                           : nullptr;
    if (wanted != nullptr && form != "as_none" && form != wanted) torn(body_.file, where + " is " + form + " where " + wanted + " belongs");
  }

  // A schema says how long a list is; kernels read so many. One number may stand for all, but not of paddings.
  void check_length(const c10::Argument& expected, const Instruction& instruction, const std::string& where) const {
    const Argument& last = instruction.arguments.back();
    if (!expected.N() || *expected.N() < 2 || (last.kind == Argument::Kind::constant && !last.constant.isList())) return;
    const size_t wanted = static_cast<size_t>(*expected.N());
    const size_t found = last.kind == Argument::Kind::constant ? last.constant.toListRef().size() : last.slots.size();
    const bool all = instruction.operation->schema().name().find("_pad") != std::string::npos;
    if (found != wanted && (all || (found != 1 && !(found == 0 && expected.default_value()))))
      torn(body_.file, text(where, " has ", found, " numbers where ", wanted, " belong"));
  }

  Argument argument(const json& given, c10::TypePtr type, const std::string& where, const Scope& scope) {
    if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
    const auto [form, content] = tagged(given);
    Argument out;
    const bool wants_tensor = type->kind() == c10::TypeKind::TensorType, wants_float = type->kind() == c10::TypeKind::FloatType,
               wants_list = type->kind() == c10::TypeKind::ListType;
    const auto element = [&] { return type->castRaw<c10::ListType>()->getElementType()->kind(); };
    const auto constant = [&](IValue value) {
      if (wants_tensor && (value.isInt() || value.isDouble() || value.isBool())) value = as_tensor(value);
      if (wants_float && value.isInt()) value = static_cast<double>(value.toInt());
      if (wants_list && value.isInt()) value = element() == c10::TypeKind::FloatType ? IValue(std::vector<double>{double(value.toInt())})
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
      out.slots = {slot_of(scope, name, where)};
      return out;
    };

    if (form == "as_none") return constant(IValue());
    if (form == "as_tensor") return value_named(content.at("name"));
    if (form == "as_int") return constant(whole(content));
    if (form == "as_bool") return constant(content.get<bool>());
    if (form == "as_float") return constant(real_of(content));
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
      for (const json& number : content) reals.push_back(real_of(number));
      return constant(IValue(reals));
    }
    if (form == "as_bools") {
      c10::List<bool> bools;
      for (const json& one : content) bools.push_back(one.get<bool>());
      return constant(IValue(bools));
    }
    if (form == "as_scalar_type") return constant(static_cast<int64_t>(type_numbered(whole(content), body_.file + ": " + where)));
    if (form == "as_device") return constant(IValue(device_));
    if (form == "as_layout") {
      require(whole(content) == 7, Failure::input, body_.file, ": ", where, ": found a sparse layout, expected a dense one");
      return constant(static_cast<int64_t>(at::kStrided));
    }
    if (form == "as_memory_format") {
      static const std::map<int64_t, at::MemoryFormat> formats{{1, at::MemoryFormat::Contiguous},
                                                               {2, at::MemoryFormat::ChannelsLast},
                                                               {3, at::MemoryFormat::ChannelsLast3d},
                                                               {4, at::MemoryFormat::Preserve}};
      const auto found = formats.find(whole(content));
      if (found == formats.end()) torn(body_.file, where + " has an unknown memory format");
      return constant(static_cast<int64_t>(found->second));
    }
    if (form == "as_sym_int" || form == "as_sym_float" || form == "as_sym_bool") {
      out.number = wants_tensor;
      if (content.contains("as_name")) return value_named(content.at("as_name"));
      if (content.contains("as_int")) return constant(whole(content.at("as_int")));
      if (content.contains("as_bool")) return constant(content.at("as_bool").get<bool>());
      return constant(real_of(content.at("as_float")));
    }
    if (form == "as_sym_ints") {
      out.kind = Argument::Kind::numbers;
      for (const json& one : content) {
        const bool named = one.contains("as_name");
        out.slots.push_back(named ? slot_of(scope, one.at("as_name"), where) : -1);
        out.numbers.push_back(named ? 0 : whole(one.at("as_int")));
      }
      return out;
    }
    if (form == "as_tensors") {
      out.kind = Argument::Kind::tensors;
      out.optional = wants_list && element() == c10::TypeKind::OptionalType;
      for (const json& one : content) out.slots.push_back(slot_of(scope, one.at("name"), where));
      return out;
    }
    if (form == "as_optional_tensor") {
      if (content.contains("as_none")) return constant(IValue());
      return value_named(content.at("as_tensor").at("name"));
    }
    if (form == "as_optional_tensors") {
      out.kind = Argument::Kind::tensors;
      out.optional = true;
      for (const json& one : content)
        out.slots.push_back(one.contains("as_tensor") ? slot_of(scope, one.at("as_tensor").at("name"), where) : -1);
      return out;
    }
    fail(Failure::input, body_.file, ": ", where, ": found an argument of form ", form, ", which evoke does not read; export the network without it");
  }

  // Numbers that JSON cannot write come as words.
  double real_of(const json& number) const {
    if (number.is_number()) return number.get<double>();
    const std::string word = number.get<std::string>();
    if (word == "Infinity" || word == "inf") return std::numeric_limits<double>::infinity();
    if (word == "-Infinity" || word == "-inf") return -std::numeric_limits<double>::infinity();
    if (word == "NaN" || word == "nan") return std::numeric_limits<double>::quiet_NaN();
    torn(body_.file, "'" + word + "' is no number");
  }

  // Norms that would take their statistics from the batch, and dropout that would drop.
  void refuse_training(const json& node, const std::string& target, const std::string& where, const Instruction& instruction) const {
    if (!instruction.operation) return;
    const std::string& name = instruction.operation->schema().name();
    const bool norm = name.find("batch_norm") != std::string::npos || name == "aten::instance_norm",
               drop = name.find("dropout") != std::string::npos;
    bool training = name == "aten::_native_batch_norm_legit" || name == "aten::bernoulli" || target.find("batch_norm_with_update") != std::string::npos;
    const auto& arguments = instruction.operation->schema().arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const std::string& key = arguments[i].name();
      const IValue& value = instruction.arguments[i].constant;
      if (((norm && key == "training") || (drop && (key == "train" || key == "training"))) && value.isBool()) training = training || value.toBool();
    }
    require(!training, Failure::input, body_.file, ": ", where, module_text(node),
            ": the network was exported in training mode, where a picture's activations depend on the others in its batch or on chance; call "
            "model.eval() before torch.export.export");
  }

  static std::string module_text(const json& node) {
    if (!node.contains("metadata") || !node.at("metadata").contains("nn_module_stack")) return "";
    const std::string stack = node.at("metadata").at("nn_module_stack");
    const size_t first = stack.find(',', stack.rfind(';') == std::string::npos ? 0 : stack.rfind(';'));
    if (first == std::string::npos) return "";
    const std::string path = stack.substr(first + 1, stack.find(',', first + 1) - first - 1);
    return path.empty() ? "" : " in " + path;
  }

  // Which slots share memory, as far as the schemas say: what writes to a view writes to its base.
  void follow_aliases(Instruction& instruction) {
    if (!instruction.operation) return;
    const c10::FunctionSchema& schema = instruction.operation->schema();
    for (size_t r = 0; r < instruction.results.size() && r < schema.returns().size(); ++r) {
      const auto* alias = schema.returns()[r].alias_info();
      if (!alias) continue;
      for (size_t a = 0; a < schema.arguments().size(); ++a) {
        const auto* source = schema.arguments()[a].alias_info();
        if (!source || source->beforeSets() != alias->beforeSets() || instruction.arguments[a].slots.empty()) continue;
        const int viewed = instruction.arguments[a].slots[0];
        const bool reshaped = schema.name() == "aten::view" || schema.name() == "aten::reshape" || schema.name() == "aten::flatten";
        for (const int slot : instruction.results[r])
          if (slot >= 0) {
            base_[slot] = base_of(viewed);
            if (reshaped || reshaped_.contains(viewed)) reshaped_.insert(slot);
          }
      }
    }
    for (const int written : instruction.mutated) {
      const int base = base_of(written);
      if (reshaped_.contains(written)) writes_through_reshape_ = true;
      const auto weight = weight_names_.find(base);
      require(weight == weight_names_.end(), Failure::input, body_.file, ": ", instruction.where, " changes the network's own '",
              weight == weight_names_.end() ? "" : weight->second, "', so one picture would depend on those before it; call model.eval() before "
              "torch.export.export");
      if (const auto input = input_at_.find(base); input != input_at_.end()) written_.insert(input->second);
    }
  }

  // What a view is of, in the end.
  int base_of(int slot) const {
    const auto found = base_.find(slot);
    return found == base_.end() ? slot : found->second;
  }

  // Every module on a node's stack has, so far, this node's result as its output.
  void note_modules(const json& node, int made) {
    if (lists_.contains(made) || !node.contains("metadata")) return;
    const Instruction& instruction = body_.instructions[static_cast<size_t>(made)];
    if (instruction.results.empty() || instruction.results[0].size() != 1 || instruction.results[0][0] < 0) return;
    const int slot = instruction.results[0][0];
    if (!described_.contains(slot_names_[slot])) return;  // a size
    const auto stack = node.at("metadata").find("nn_module_stack");
    if (stack == node.at("metadata").end()) return;
    std::istringstream entries(stack->get<std::string>());
    for (std::string entry; std::getline(entries, entry, ';');) {
      const size_t first = entry.find(','), second = first == std::string::npos ? first : entry.find(',', first + 1);
      if (second == std::string::npos) continue;
      const std::string key = entry.substr(0, first), path = one_line(entry.substr(first + 1, second - first - 1));
      std::string type = entry.substr(second + 1);
      type = one_line(type.substr(type.rfind('.') + 1));
      if (path.empty()) continue;
      auto& [calls, call_of] = calls_[path];
      const auto [call, first_seen] = call_of.emplace(key, calls.size());
      if (first_seen) calls.push_back({type, slot, made});
      calls[call->second].slot = slot, calls[call->second].made = made;
    }
  }

  void read_outputs(const json& module, const Scope& scope, Program& program) {
    for (const json& spec : module.at("signature").at("output_specs"))
      require(spec.contains("user_output") || spec.contains("token"), Failure::input, body_.file, ": has a ", tagged(spec).first,
              ", so one picture would depend on those before it; call model.eval() before torch.export.export");

    // Names of a dict's entries, where the output is one.
    std::vector<std::string> keys;
    for (const json& entry : module.at("module_call_graph")) {
      if (entry.at("fqn") != "" || entry.at("signature").is_null()) continue;
      const json tree = parsed_text(entry.at("signature").at("out_spec").get<std::string>(), body_.file, "the form of its output");
      if (tree.is_array() && tree.size() == 2 && tree[1].is_object() && tree[1].value("type", json()).is_string() && tree[1].contains("context") &&
          tree[1]["context"].is_string()) {
        const json context = parsed_text(tree[1]["context"].get<std::string>(), body_.file, "the form of its output");
        if (context.is_array())
          for (const json& key : context) keys.push_back(one_line(key.is_string() ? key.get<std::string>() : key.dump()));
      }
    }
    const json& outputs = module.at("graph").at("outputs");
    if (!outputs.is_array()) misread(outputs.type_name(), "a list of outputs");
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].contains("as_tensor")) continue;
      const std::string value = outputs[i].at("as_tensor").at("name");
      const std::string name =
          outputs.size() == 1 ? "output" : "output." + (keys.size() == outputs.size() ? keys[i] : std::to_string(i));
      const int slot = slot_of(scope, value, "the output");
      slot_names_.try_emplace(slot, value);
      program.outputs.push_back({name, described_.at(value).shape, described_.at(value).type});
      outputs_.push_back({name, "output", slot, static_cast<int>(body_.instructions.size()), true, {}});
    }
    require(!program.outputs.empty(), Failure::input, body_.file, ": gives no tensor; wrap the network in a module that returns one, and export that");
  }

  void name_taps(Program& program) {
    std::map<std::string, int64_t> parameters;
    for (const auto& [name, count] : parameters_)
      for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) parameters[name.substr(0, dot)] += count;

    std::vector<Tap> all;
    for (const auto& [path, all_calls] : calls_) {
      const std::vector<Call>& calls = all_calls.in_order;
      for (size_t i = 0; i < calls.size(); ++i) {
        const bool last = i + 1 == calls.size();
        all.push_back({last ? path : text(path, "#", i + 1), calls[i].type, calls[i].slot, calls[i].made, true, {}});
      }
    }
    // In the order in which they are made; where a module and its last part give the same value, the part first.
    std::stable_sort(all.begin(), all.end(), [](const Tap& a, const Tap& b) {
      return a.made != b.made ? a.made < b.made : a.name.size() > b.name.size();
    });
    all.insert(all.end(), outputs_.begin(), outputs_.end());
    for (Tap& tap : all) {
      const Described& tensor = described_.at(slot_names_.at(tap.slot));
      const std::string path = tap.name.substr(0, tap.name.find('#'));
      Layer layer{tap.name, tap.type, tensor.shape, parameters.contains(path) ? parameters.at(path) : 0};
      tap.rowed = !tensor.shape.empty() && tensor.rows == rows_;
      if (tap.rowed) layer.shape.erase(layer.shape.begin());
      (tap.rowed ? program.layers : program.unrowed).push_back(layer);
      if (tap.rowed) {
        body_.tap_of[tap.name] = body_.taps.size();
        body_.taps.push_back(tap);
      }
    }
    body_.written_inputs.resize(body_.inputs.size());
    for (const size_t input : written_) body_.written_inputs[input] = true;
    if (order_ == MemoryOrder::as_exported) return;
    body_.fold = true;
    // A view of channels-last memory may not exist where one of NCHW does: then the numbers are copied, which a write through it would miss.
    if (writes_through_reshape_) return;
    const auto reshape = c10::Dispatcher::singleton().findSchemaOrThrow("aten::reshape", "");
    for (Instruction& instruction : body_.instructions)
      if (instruction.operation && instruction.operation->schema().name() == "aten::view" && instruction.operation->schema().overload_name().empty())
        instruction.operation = reshape;
  }

  struct Call {
    std::string type;
    int slot, made;
  };
  struct Calls {
    std::vector<Call> in_order;
    std::unordered_map<std::string, size_t> of_key;
  };
  Archive& archive_;
  Body& body_;
  at::Device device_;
  MemoryOrder order_;
  int64_t nodes_ = 0, nested_ = 0;
  std::string rows_;  // the first input's number of rows, as the file writes it
  std::unordered_map<std::string, Described> described_;
  std::map<std::string, int64_t> parameters_;
  std::unordered_map<int, std::string> weight_names_, slot_names_;
  std::unordered_map<int, int> base_;
  std::unordered_map<int, size_t> input_at_;
  std::set<int> reshaped_, lists_;
  std::set<size_t> written_;
  bool writes_through_reshape_ = false;
  std::map<std::string, Calls> calls_;
  std::vector<Tap> outputs_;
};

// ---- Running.

// What a set of taps needs: instructions in order, and what is dead after each.
struct Plan {
  struct Step {
    const Instruction* instruction;
    std::vector<int> dead;
    std::vector<std::pair<std::string, int>> taps;  // made here
    bool clone = false;                             // a later step writes in place, perhaps over what is tapped here
  };
  std::vector<Step> steps;
  std::vector<std::pair<std::string, int>> given;  // taps that are inputs or weights
  std::deque<Instruction> folded;                  // convolutions with the norm behind them
};

// A batch norm in evaluation is a factor and an addend a channel, so it fits into the weights of the convolution before it: one pass over the
// map less, in both directions. Rounds otherwise than Python, so only where the caller has chosen speed.
std::optional<Instruction> fold(const Body& body, const Instruction& convolution, const Instruction& norm) {
  const auto weight_in = [&](const Argument& argument) {
    if (argument.kind == Argument::Kind::value)
      for (const auto& [slot, tensor] : body.weights)
        if (slot == argument.slots[0] && tensor.scalar_type() == at::kFloat) return tensor;
    return Tensor();
  };
  const auto& c = convolution.arguments;
  const auto& n = norm.arguments;
  const Tensor weight = weight_in(c.at(1)), mean = weight_in(n.at(3)), variance = weight_in(n.at(4));
  const bool biased = c.at(2).kind == Argument::Kind::value, scaled = n.at(1).kind == Argument::Kind::value, moved = n.at(2).kind == Argument::Kind::value;
  const Tensor bias = weight_in(c[2]), factor = weight_in(n[1]), addend = weight_in(n[2]);
  const bool known = weight.defined() && mean.defined() && variance.defined() && biased == bias.defined() && scaled == factor.defined() &&
                     moved == addend.defined();
  if (!known || weight.dim() != 4 || mean.numel() != weight.size(0) || !n.at(7).constant.isDouble()) return std::nullopt;
  Tensor scale = at::rsqrt(variance + n[7].constant.toDouble());
  if (scaled) scale = scale * factor;
  Tensor shift = (biased ? bias - mean : -mean) * scale;
  if (moved) shift = shift + addend;
  Instruction out = convolution;
  out.results = norm.results;
  out.arguments[1] = Argument();
  out.arguments[1].constant = (weight * scale.view({-1, 1, 1, 1})).contiguous(at::MemoryFormat::ChannelsLast);
  out.arguments[2] = Argument();
  out.arguments[2].constant = shift;
  return out;
}

// The norms that can be folded: place of the convolution -> the norm's, where nothing else uses what lies between them.
std::map<int, int> foldable(const Body& body, const std::vector<bool>& live, const std::vector<int>& maker, const std::set<int>& tapped) {
  std::vector<int> uses(static_cast<size_t>(body.slots));
  for (size_t i = 0; i < live.size(); ++i)
    if (live[i])
      for (const Argument& argument : body.instructions[i].arguments)
        for (const int slot : argument.slots)
          if (slot >= 0) ++uses[static_cast<size_t>(slot)];
  const auto is = [](const Instruction& instruction, const char* name) {
    return instruction.operation && instruction.operation->schema().name() == name && instruction.operation->schema().overload_name().empty();
  };
  std::map<int, int> out;
  for (size_t i = 0; i < live.size(); ++i) {
    const Instruction& norm = body.instructions[i];
    if (!live[i] || !is(norm, "aten::batch_norm") || norm.arguments[0].kind != Argument::Kind::value) continue;
    const int between = norm.arguments[0].slots[0], made = maker[static_cast<size_t>(between)];
    if (made >= 0 && uses[static_cast<size_t>(between)] == 1 && !tapped.contains(between) &&
        is(body.instructions[static_cast<size_t>(made)], "aten::conv2d"))
      out[made] = static_cast<int>(i);
  }
  return out;
}

Plan plan_for(const Body& body, const std::vector<std::string>& taps) {
  std::vector<bool> needed(static_cast<size_t>(body.slots)), live(body.instructions.size());
  std::vector<int> maker(static_cast<size_t>(body.slots), -1);
  for (size_t i = 0; i < body.instructions.size(); ++i)
    for (const auto& result : body.instructions[i].results)
      for (const int slot : result)
        if (slot >= 0) maker[static_cast<size_t>(slot)] = static_cast<int>(i);
  int deepest = -1;
  std::multimap<int, std::pair<std::string, int>> made;
  for (const std::string& name : taps) {
    const auto found = body.tap_of.find(name);
    if (found == body.tap_of.end()) {
      std::vector<std::string> names;
      for (const Tap& tap : body.taps) names.push_back(tap.name);
      fail(Failure::usage, body.file, ": found no layer '", name, "'", did_you_mean(name, names), "; evoke inspect lists them");
    }
    const int slot = body.taps[found->second].slot, at = maker[static_cast<size_t>(slot)];
    needed[static_cast<size_t>(slot)] = true;
    deepest = std::max(deepest, at);
    made.emplace(at, std::pair{name, slot});
  }

  // Backwards from the deepest tap. What writes in place counts as needed: whose memory it writes to is not always written in its schema.
  for (int i = deepest; i >= 0; --i) {
    const Instruction& instruction = body.instructions[static_cast<size_t>(i)];
    bool wanted = !instruction.mutated.empty();
    for (const auto& result : instruction.results)
      for (const int slot : result) wanted = wanted || (slot >= 0 && needed[static_cast<size_t>(slot)]);
    if (!wanted) continue;
    live[static_cast<size_t>(i)] = true;
    for (const Argument& argument : instruction.arguments)
      for (const int slot : argument.slots)
        if (slot >= 0) needed[static_cast<size_t>(slot)] = true;
  }

  Plan plan;
  std::set<int> tapped;
  for (auto [at, tap] : made) {
    tapped.insert(tap.second);
    if (at < 0) plan.given.push_back(tap);
  }
  std::map<int, int> norms = body.fold ? foldable(body, live, maker, tapped) : std::map<int, int>();
  std::map<int, Instruction*> together;
  for (const auto& [convolution, norm] : norms)
    if (auto one = fold(body, body.instructions[static_cast<size_t>(convolution)], body.instructions[static_cast<size_t>(norm)])) {
      together[convolution] = &plan.folded.emplace_back(std::move(*one));
      live[static_cast<size_t>(norm)] = false;
    }
  std::vector<int> last(static_cast<size_t>(body.slots), -1);
  for (int i = 0; i <= deepest; ++i) {
    if (!live[static_cast<size_t>(i)]) continue;
    const bool with_norm = together.contains(i);
    const Instruction& instruction = with_norm ? *together.at(i) : body.instructions[static_cast<size_t>(i)];
    const int step = static_cast<int>(plan.steps.size());
    for (const Argument& argument : instruction.arguments)
      for (const int slot : argument.slots)
        if (slot >= 0) last[static_cast<size_t>(slot)] = step;
    for (const auto& result : instruction.results)
      for (const int slot : result)
        if (slot >= 0) last[static_cast<size_t>(slot)] = step;
    Plan::Step next{&instruction, {}, {}, false};
    for (auto [begin, end] = made.equal_range(with_norm ? norms.at(i) : i); begin != end; ++begin) next.taps.push_back(begin->second);
    plan.steps.push_back(std::move(next));
  }
  bool writes = false;
  for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
    step->clone = writes;
    writes = writes || !step->instruction->mutated.empty();
  }
  for (int slot = 0; slot < body.slots; ++slot)
    if (last[static_cast<size_t>(slot)] >= 0) plan.steps[static_cast<size_t>(last[static_cast<size_t>(slot)])].dead.push_back(slot);
  return plan;
}

// Bytes that the machine can still give, as far as it says.
uint64_t available_memory() {
  std::ifstream lines("/proc/meminfo");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  return std::numeric_limits<uint64_t>::max();
}

void put(const Argument& argument, const std::vector<IValue>& values, std::vector<IValue>& stack) {
  switch (argument.kind) {
    case Argument::Kind::constant: stack.push_back(argument.constant); return;
    case Argument::Kind::value: {
      const IValue& value = values[static_cast<size_t>(argument.slots[0])];
      stack.push_back(argument.number ? as_tensor(value) : value);
      return;
    }
    case Argument::Kind::numbers: {
      std::vector<int64_t> numbers = argument.numbers;
      for (size_t i = 0; i < numbers.size(); ++i)
        if (argument.slots[i] >= 0) numbers[i] = integer(values[static_cast<size_t>(argument.slots[i])]);
      stack.emplace_back(std::move(numbers));
      return;
    }
    case Argument::Kind::tensors:
      if (argument.optional) {
        c10::List<std::optional<Tensor>> list;
        list.reserve(argument.slots.size());
        for (const int slot : argument.slots)
          list.push_back(slot < 0 ? std::optional<Tensor>() : values[static_cast<size_t>(slot)].toTensor());
        stack.emplace_back(std::move(list));
      } else {
        c10::List<Tensor> list;
        list.reserve(argument.slots.size());
        for (const int slot : argument.slots) list.push_back(values[static_cast<size_t>(slot)].toTensor());
        stack.emplace_back(std::move(list));
      }
  }
}

// A picture on its way through a network never grows so large; a file that means harm doubles it until nothing is left.
void check_size(const Instruction& instruction, const Tensor& tensor) {
  require(tensor.numel() <= most_numbers, Failure::input, instruction.where, " gave a value ", shape_text(tensor.sizes()),
          ", which is larger than any network's");
  if (tensor.is_cpu() && tensor.numel() >= (1 << 28)) {
    const auto bytes = static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    require(bytes <= available_memory() / 2, Failure::device, instruction.where, " gave a value ", shape_text(tensor.sizes()),
            ": there is not enough memory left to go on; take fewer rows at a time");
  }
}

void take(const Instruction& instruction, std::vector<IValue>& stack, std::vector<IValue>& values) {
  for (IValue& result : stack) {
    // A tensor that an operator leaves out is none to the next.
    if (result.isTensor() && !result.toTensor().defined()) result = IValue();
    if (result.isTensor()) check_size(instruction, result.toTensor());
  }
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    const std::vector<int>& slots = instruction.results[r];
    if (slots.size() == 1 && !(stack[r].isTensorList())) {
      if (slots[0] >= 0) values[static_cast<size_t>(slots[0])] = std::move(stack[r]);
      continue;
    }
    const std::vector<Tensor> list = stack[r].toTensorVector();
    require(list.size() == slots.size(), Failure::input, instruction.where, " gave ", list.size(), " tensors where the file says ", slots.size(),
            "; the file does not fit this LibTorch, or its sizes are fixed: export with dynamic_shapes");
    for (size_t i = 0; i < slots.size(); ++i)
      if (slots[i] >= 0) values[static_cast<size_t>(slots[i])] = list[i];
  }
}

void run_step(const Plan::Step& step, std::vector<IValue>& values, std::vector<IValue>& stack, Activations& out) {
  const Instruction& instruction = *step.instruction;
  stack.clear();
  for (const Argument& argument : instruction.arguments) put(argument, values, stack);
  if (instruction.operation) {
    if (instruction.check != nullptr) instruction.check(stack);
    std::optional<c10::AutoGradMode> off;
    if (!instruction.gradient) off.emplace(false);
    instruction.operation->callBoxed(stack);
  } else {
    IValue result = instruction.arithmetic(stack);
    stack.assign(1, std::move(result));
  }
  require(stack.size() >= instruction.results.size(), Failure::input, instruction.where, " gave too few values");
  take(instruction, stack, values);
  for (const auto& [name, slot] : step.taps) {
    const Tensor& tapped = values[static_cast<size_t>(slot)].toTensor();
    out[name] = step.clone ? tapped.clone() : tapped;
  }
  for (const int slot : step.dead) values[static_cast<size_t>(slot)] = IValue();
}

Activations run_plan(const Body& body, const Plan& plan, const std::vector<Tensor>& inputs) {
  require(inputs.size() == body.inputs.size(), Failure::usage, body.file, ": found ", inputs.size(), " inputs, expected ", body.inputs.size());
  std::vector<IValue> values(static_cast<size_t>(body.slots));
  for (const auto& [slot, tensor] : body.weights) values[static_cast<size_t>(slot)] = tensor;
  for (size_t i = 0; i < body.inputs.size(); ++i) {
    require(inputs[i].defined() && inputs[i].dim() > 0, Failure::usage, body.file, ": found an input without rows");
    values[static_cast<size_t>(body.inputs[i])] = body.written_inputs[i] ? inputs[i].clone() : inputs[i];
  }

  Activations out;
  for (const auto& [name, slot] : plan.given) out[name] = values[static_cast<size_t>(slot)].toTensor();
  std::vector<IValue> stack;
  for (const Plan::Step& step : plan.steps) {
    const std::string& where = step.instruction->where;
    try {
      run_step(step, values, stack, out);
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const Error& error) {
      const std::string sentence = error.what();
      throw Error(error.kind(), one_line(body.file + ": " + (sentence.starts_with(where) ? "" : where + ": ") + sentence));
    } catch (const c10::Error& error) {
      const std::string sentence = one_line(error.what_without_backtrace());
      if (sentence.find("can't allocate memory") != std::string::npos) throw;
      fail(Failure::input, body.file, ": ", one_line(where), ": ", sentence,
           inputs[0].dim() == 4 ? text("; the image was ", shape_text(inputs[0].sizes()), ": is it the size the network was exported for?") : "");
    } catch (const std::bad_alloc&) {
      fail(Failure::device, body.file, ": ", one_line(where), ": there is not enough memory; take fewer rows at a time");
    } catch (const std::exception& error) {
      fail(Failure::input, body.file, ": ", one_line(where), ": ", one_line(error.what()), "; the file is torn, or does not fit this LibTorch");
    }
  }
  return out;
}

}  // namespace

// ---- What may run. LibTorch has some two thousand operators, and many trust their callers with shapes, strides or raw storage (backward
// formulas, kernels of one backend, sparse and quantized tensors): what runs here are those that networks are made of and that check what they
// are given. An operator's in-place twin (name_) is meant too.
bool may_run(const std::string& space, const std::string& name) {
  static const std::set<std::string> known = [] {
    const char* elementwise =
        "abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh "
        "bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip complex "
        "conj conj_physical copysign cos cosh deg2rad digamma div divide elu eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide "
        "fmax fmin fmod frac gcd ge gelu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot i0 imag isclose "
        "isfinite isinf isnan isneginf isposinf isreal lcm ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid "
        "log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul "
        "multiply mvlgamma nan_to_num ne neg negative nextafter not_equal polar polygamma positive pow prelu rad2deg real reciprocal relu relu6 "
        "remainder resolve_conj resolve_neg round rrelu rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink sqrt "
        "square sub subtract tan tanh threshold true_divide trunc where xlogy special_bessel_j0 special_bessel_j1 special_digamma special_entr "
        "special_erf special_erfc special_erfcx special_erfinv special_exp2 special_expit special_expm1 special_gammaln special_i0 special_i0e "
        "special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax special_logit special_logsumexp special_ndtr special_ndtri "
        "special_psi special_round special_sinc special_softmax special_xlog1py special_xlogy special_zeta _conj _prelu_kernel";
    const char* reducing =
        "all allclose amax amin aminmax any argmax argmin argsort bincount bucketize cdist corrcoef cosine_similarity count_nonzero cov cummax "
        "cummin cumprod cumsum cumulative_trapezoid diff dist equal frobenius_norm gradient histc kthvalue linalg_matrix_norm linalg_norm "
        "linalg_vector_norm log_softmax logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nanquantile nansum norm "
        "norm_except_dim nuclear_norm pairwise_distance pdist prod quantile renorm searchsorted softmax sort std std_mean sum topk trace "
        "trapezoid trapz unique_consecutive unique_dim var var_mean _cdist_forward _euclidean_dist _is_all_true _is_any_true _log_softmax "
        "_safe_softmax _softmax";
    const char* matrices =
        "addbmm addmm addmv addr adjoint baddbmm bilinear bmm chain_matmul cholesky cholesky_inverse cross det dot einsum ger inner inverse kron "
        "linalg_cholesky linalg_cholesky_ex linalg_cross linalg_det linalg_diagonal linalg_eigh linalg_eigvalsh linalg_inv linalg_inv_ex "
        "linalg_lstsq linalg_matmul linalg_matrix_exp linalg_matrix_power linalg_multi_dot linalg_pinv linalg_qr linalg_slogdet linalg_solve "
        "linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_vander linalg_vecdot linear logdet matmul matrix_exp "
        "matrix_power mm mv outer pinverse slogdet svd tensordot triangular_solve vander vdot";
    const char* networks =
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bernoulli binary_cross_entropy "
        "binary_cross_entropy_with_logits channel_shuffle col2im constant_pad_nd conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d "
        "conv_transpose3d convolution cosine_embedding_loss cross_entropy_loss dropout embedding feature_alpha_dropout feature_dropout glu "
        "grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell huber_loss im2col instance_norm kl_div l1_loss layer_norm lstm "
        "lstm_cell max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d "
        "max_unpool3d mse_loss native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm nll_loss nll_loss_nd "
        "one_hot pad pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell scaled_dot_product_attention smooth_l1_loss soft_margin_loss "
        "upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d _convolution _native_batch_norm_legit _native_batch_norm_legit_no_training _pad_circular "
        "_scaled_dot_product_attention_math _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention "
        "_scaled_dot_product_flash_attention_for_cpu _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm";
    const char* spectra =
        "bartlett_window blackman_window fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 "
        "fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn "
        "hamming_window hann_window istft kaiser_window stft _fft_c2c _fft_c2r _fft_r2c";
    const char* shapes =
        "alias alias_copy align_tensors argwhere as_strided as_strided_copy as_strided_scatter atleast_1d atleast_2d atleast_3d block_diag "
        "broadcast_tensors broadcast_to cartesian_prod cat chunk clone column_stack combinations concat concatenate contiguous copy detach "
        "detach_copy diag diag_embed diagflat diagonal diagonal_copy diagonal_scatter dsplit dstack expand expand_as expand_copy fill "
        "fill_diagonal flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill index_put index_reduce index_select "
        "lift_fresh lift_fresh_copy mH mT masked_scatter masked_select matrix_H meshgrid moveaxis movedim narrow narrow_copy nonzero "
        "nonzero_numpy numpy_T pad_sequence permute permute_copy put ravel repeat repeat_interleave reshape reshape_as roll rot90 row_stack "
        "scatter scatter_add scatter_reduce select select_copy select_scatter slice slice_copy slice_scatter split split_copy split_with_sizes "
        "split_with_sizes_copy squeeze squeeze_copy stack sum_to_size swapaxes swapdims t t_copy take take_along_dim tensor_split tile to "
        "transpose transpose_copy tril triu type_as unbind unbind_copy unflatten unfold unfold_copy unsafe_chunk unsafe_split "
        "unsafe_split_with_sizes unsqueeze unsqueeze_copy view view_as view_as_complex view_as_complex_copy view_as_real view_as_real_copy "
        "view_copy vsplit vstack _shape_as_tensor _to_copy _unsafe_view";
    const char* making =
        "arange empty empty_like empty_permuted eye full full_like linspace logspace new_empty new_full new_ones new_zeros normal ones ones_like "
        "rand rand_like randint randint_like randn randn_like randperm scalar_tensor tril_indices triu_indices uniform zero zeros zeros_like";
    const char* asking =
        "dim element_size is_complex is_contiguous is_floating_point is_nonzero is_same_size is_signed item numel result_type size storage_offset "
        "stride sym_numel sym_size sym_storage_offset sym_stride _local_scalar_dense";
    // Python's own, as TorchScript writes them: on numbers, lists and words.
    const char* python =
        "Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit Size __and__ __contains__ __delitem__ __derive_index "
        "__getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ __range_length "
        "__round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear __upsample_nearest __xor__ _set_item _unwrap_optional append as_tensor "
        "bin chr clear count cpu degrees device dict divmod endswith extend fabs factorial find floordiv format gamma get get_device hash hex "
        "index insert is_cuda is_grad_enabled is_scripting isalnum isalpha isdigit islower isspace isupper items join keys len list lower "
        "lstrip mathremainder modf oct ord percentFormat pop popitem promote_types radians remove replace reverse rfind rstrip setdefault sorted "
        "splitlines startswith str strip tensor update upper values";
    std::set<std::string> out;
    for (const char* words : {elementwise, reducing, matrices, networks, spectra, shapes, making, asking, python}) {
      std::istringstream each(words);
      for (std::string word; each >> word;) out.insert(word);
    }
    return out;
  }();
  if (space != "aten") return false;
  const bool twin = name.size() > 2 && name.ends_with('_') && !name.ends_with("__");
  return known.contains(twin ? name.substr(0, name.size() - 1) : name);
}

Program load_pt2(const std::string& file, at::Device device, MemoryOrder order) {
  auto body = std::make_shared<Body>();
  body->file = file;
  Program program;
  program.file = file;
  program.format = "pt2";
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  require(bool(stream), Failure::input, file, ": cannot be read; expected a program that torch.export.save wrote");
  try {
    Archive archive{file, caffe2::serialize::PyTorchStreamReader(file), static_cast<uint64_t>(stream.tellg())};
    std::vector<std::string> names;
    for (const std::string& record : archive.reader.getAllRecords())
      if (record.starts_with("models/") && record.ends_with(".json")) names.push_back(record.substr(7, record.size() - 12));
    require(names.size() == 1, Failure::input, file, ": holds ", names.size(), " programs (", list_of(names), "), expected one; save one alone");
    Reader(archive, *body, device, order).read(names[0], program);
  } catch (const Error& error) {
    throw Error(error.kind(), one_line(error.what()));
  } catch (const c10::Error& error) {
    torn(file, "the archive is torn (" + one_line(error.what_without_backtrace()) + ")");
  } catch (const std::bad_alloc&) {
    torn(file, "it asks for more memory than there is");
  } catch (const std::exception& error) {
    torn(file, "its graph is torn or of another version (" + one_line(error.what()) + ")");
  }

  // One plan a set of taps, made when it is first asked for.
  auto plans = std::make_shared<std::map<std::vector<std::string>, Plan>>();
  auto guard = std::make_shared<std::mutex>();
  program.run = [body, plans, guard](const std::vector<Tensor>& inputs, const std::vector<std::string>& taps) {
    const Plan* plan = nullptr;
    {
      const std::lock_guard<std::mutex> locked(*guard);
      auto found = plans->find(taps);
      if (found == plans->end()) found = plans->emplace(taps, plan_for(*body, taps)).first;
      plan = &found->second;
    }
    Activations out = run_plan(*body, *plan, inputs);
    for (const auto& [name, tensor] : out)
      require(tensor.dim() > 0 && tensor.size(0) == inputs[0].size(0), Failure::input, body->file, ": '", name, "' gave ", shape_text(tensor.sizes()),
              " for ", inputs[0].size(0), " rows, where the file says a row an image; it does not fit this LibTorch");
    return out;
  };
  return program;
}

}  // namespace evoke
