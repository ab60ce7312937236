#include "core/programs/size_arithmetic.h"

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "core/error.h"
#include "core/numbers/tensor.h"

namespace evoke {

using c10::IValue;

IValue as_tensor(const IValue& value) {
  if (value.isTensor()) return value;
  Tensor wrapped = value.isInt()    ? at::scalar_tensor(value.toInt(), at::kLong)
                   : value.isBool() ? at::scalar_tensor(value.toBool(), at::kBool)
                                    : at::scalar_tensor(value.toDouble(), at::kDouble);
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  return wrapped;
}

int64_t integer(const IValue& v) { return v.isBool() ? v.toBool() : v.toInt(); }

namespace {

bool is_integer(const IValue& v) { return v.isInt() || v.isBool(); }
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

}  // namespace

Arithmetic arithmetic_named(const std::string& name) {
  using V = const std::vector<IValue>&;
  static const std::map<std::string, Arithmetic> table{
      {"add",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) + uint64_t(b)); }, std::plus<double>());
       }},
      {"sub",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(b)); }, std::minus<double>());
       }},
      {"mul",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) * uint64_t(b)); }, std::multiplies<double>());
       }},
      {"floordiv", [](V v) { return either(v, floor_quotient, [](double a, double b) { return std::floor(a / b); }); }},
      {"mod",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(floor_quotient(a, b)) * uint64_t(b)); },
             [](double a, double b) { return a - std::floor(a / b) * b; });
       }},
      {"truediv", [](V v) { return IValue(real(v.at(0)) / real(v.at(1))); }},
      {"pow",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return whole_part(std::round(std::pow(double(a), double(b)))); },
             [](double a, double b) { return std::pow(a, b); });
       }},
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
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace evoke
