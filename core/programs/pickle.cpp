#include "core/programs/pickle.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "core/error.h"

namespace evoke {

namespace {

constexpr int deepest = 1000;
constexpr int64_t heaviest = 10'000'000;  // values, counting what is shared as often as it is used

// What a value is while the pickle is followed.
struct Value {
  int depth = 0;
  int64_t weight = 1;
  bool fresh = false;  // a container that nothing refers to yet: it may still be filled
};

class Follower {
 public:
  Follower(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  void follow() {
    while (step()) {
    }
    if (stack_.size() != 1 || !marks_.empty()) refuse("it does not end in one value");
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(Failure::input, where_, ": ", one_line(what), "; expected what torch.jit.save writes, the file is torn or forged");
  }

  uint64_t number(int count) {
    const std::string_view digits = take(static_cast<uint64_t>(count));
    uint64_t out = 0;
    for (int i = count - 1; i >= 0; --i) out = out << 8 | static_cast<unsigned char>(digits[static_cast<size_t>(i)]);
    return out;
  }
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) refuse("it ends too early");
    const std::string_view out = bytes_.substr(at_, count);
    at_ += count;
    return out;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) refuse("it ends too early");
    const std::string_view out = take(end - at_);
    take(1);
    return out;
  }

  void push(const Value& value) {
    stack_.push_back(values_.size());
    values_.push_back(value);
  }
  // The value on top goes into another.
  Value pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("it uses a value that is not there");
    Value& value = values_[stack_.back()];
    value.fresh = false;
    stack_.pop_back();
    return value;
  }
  // How many lie above the last mark, which goes.
  size_t unmark() {
    if (marks_.empty()) refuse("it uses a value that is not there");
    const size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }
  void put(Value& into, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const Value part = pop();
      into.depth = std::max(into.depth, part.depth + 1);
      into.weight = std::min(into.weight + part.weight, std::numeric_limits<int64_t>::max() / 4);
    }
    if (into.depth > deepest || into.weight > heaviest) refuse("its values nest deeper than any network's");
  }
  void join(size_t count) {
    Value whole{1, 1, false};
    put(whole, count);
    push(whole);
  }
  void fill(size_t count) {
    // The parts lie above the container.
    if (stack_.size() < count + 1 + (marks_.empty() ? 0 : marks_.back())) refuse("it uses a value that is not there");
    const size_t container = stack_[stack_.size() - count - 1];
    if (!values_[container].fresh) refuse("it fills a list or dictionary that is in use");
    Value grown = values_[container];
    put(grown, count);
    values_[container] = grown;
  }
  void remember(uint64_t number) {
    if (stack_.empty() || number > memo_.size()) refuse("it remembers what is not there");
    if (number == memo_.size()) memo_.push_back(0);
    memo_[number] = stack_.back();
  }
  void recall(uint64_t number) {
    if (number >= memo_.size()) refuse("it recalls what is not there");
    values_[memo_[number]].fresh = false;
    stack_.push_back(memo_[number]);
  }

  void global(std::string_view module, std::string_view name) {
    static const std::set<std::string_view> known{"torch._utils _rebuild_tensor_v2",
                                                  "torch.jit._pickle build_intlist",
                                                  "torch.jit._pickle build_tensorlist",
                                                  "torch.jit._pickle build_doublelist",
                                                  "torch.jit._pickle build_boollist",
                                                  "torch.jit._pickle restore_type_tag",
                                                  "collections OrderedDict",
                                                  "torch device"};
    const std::string both = text(module, " ", name);
    const bool own = module == "__torch__" || module.starts_with("__torch__.");
    if (!own && !known.contains(both) && module != "torch") refuse("it calls " + text(module, ".", name) + ", which evoke does not run");
    push({});
  }

  // One opcode; false at the end.
  bool step() {
    const auto opcode = static_cast<unsigned char>(take(1)[0]);
    switch (opcode) {
      case 0x80:  // PROTO
        number(1);
        return true;
      case '.':
        return false;
      case 'c': {
        const std::string_view module = line(), name = line();
        global(module, name);
        return true;
      }
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case ')':
        push({1, 1, false});
        return true;
      case ']':
      case '}':
        push({1, 1, true});
        return true;
      case 't':
        join(unmark());
        return true;
      case 0x85:
      case 0x86:
      case 0x87:
        join(static_cast<size_t>(opcode - 0x84));
        return true;
      case 'e':
        fill(unmark());
        return true;
      case 'a':
        fill(1);
        return true;
      case 'u': {
        const size_t count = unmark();
        if (count % 2 != 0) refuse("it gives a dictionary a key without a value");
        fill(count);
        return true;
      }
      case 'R':  // REDUCE, BUILD: a function, and what it takes
      case 'b':
        join(2);
        return true;
      case 0x81:  // NEWOBJ: the class stays until BUILD
        pop();
        return true;
      case 'Q':
        join(1);
        return true;
      case 'N':
      case 0x88:
      case 0x89:
        push({});
        return true;
      case 'K':
        return pushed(1);
      case 'M':
        return pushed(2);
      case 'J':
        return pushed(4);
      case 'G':
        return pushed(8);
      case 0x8a:
        return pushed(number(1));
      case 'X':
        return pushed(number(4));
      case 'q':
        remember(number(1));
        return true;
      case 'r':
        remember(number(4));
        return true;
      case 'h':
        recall(number(1));
        return true;
      case 'j':
        recall(number(4));
        return true;
      default:
        refuse(text("it holds the opcode ", static_cast<int>(opcode)));
    }
  }
  bool pushed(uint64_t bytes) {
    take(bytes);
    push({});
    return true;
  }

  std::string_view bytes_;
  const std::string& where_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<size_t> stack_, memo_, marks_;  // places in values_; marks: heights of the stack
};

}  // namespace

void check_pickle(std::string_view bytes, const std::string& where) { Follower(bytes, where).follow(); }

void check_nesting(std::string_view code, const std::string& where) {
  constexpr int most_brackets = 200, most_indent = 400, longest = 4000;  // longest: characters of an expression without a comma
  int brackets = 0, length = 0, indent = 0;
  bool at_start = true;
  for (size_t i = 0; i < code.size(); ++i) {
    const char c = code[i];
    if (c == '"' || c == '\'') {
      // A string, of one quote or of three, is no expression.
      const bool three = code.substr(i, 3) == std::string(3, c);
      const std::string end(three ? 3 : 1, c);
      for (i += end.size(); i < code.size() && code.substr(i, end.size()) != end; ++i)
        if (code[i] == '\\') ++i;
      i += end.size() - 1;
      at_start = false;
      continue;
    }
    if (c == '\n') {
      at_start = true;
      indent = 0;
      if (brackets == 0) length = 0;
      continue;
    }
    if (at_start && (c == ' ' || c == '\t')) {
      ++indent;
    } else {
      at_start = false;
      ++length;
    }
    if (c == '(' || c == '[' || c == '{') ++brackets;
    if (c == ')' || c == ']' || c == '}') brackets = std::max(0, brackets - 1);
    if (c == ',') length = 0;
    require(brackets <= most_brackets && indent <= most_indent && length <= longest, Failure::input, where,
            ": nests deeper than any network's code; the file is torn or forged");
  }
}

}  // namespace evoke
