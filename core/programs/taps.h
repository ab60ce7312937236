// Which value of a .pt2's graph is which module's output: what a forward hook in Python would see.
#pragma once
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/programs/instructions.h"

namespace evoke {

/// Listens while nodes are read, in the order in which they run.
class Taps {
 public:
  /// Every module on a node's stack has, so far, this node's result as its output. `stack`: "KEY,PATH,TYPE;…", outermost first, as
  /// torch.export writes it, with a key for each call; `slot`: the result; `made`: the node's instruction.
  void note(const std::string& stack, int slot, int made);

  /// In the order in which they are made; where a module and its last part give the same value, the part first. "relu" is the module's last
  /// call, "relu#1" its first.
  std::vector<Tap> in_order() const;

 private:
  struct Call {
    std::string type;
    int slot, made;
  };
  struct Calls {
    std::vector<Call> in_order;
    std::unordered_map<std::string, size_t> of_key;
  };
  std::map<std::string, Calls> calls_;  // by the module's path
};

}  // namespace evoke
