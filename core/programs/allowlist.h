// Which of LibTorch's operators a program may run.
#pragma once
#include <string>

namespace evoke {

/// Whether programs may run the operator space::name: those that compute, none that opens files or handles raw storage.
bool may_run(const std::string& space, const std::string& name);

}  // namespace evoke
