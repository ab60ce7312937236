// The pickles of TorchScript, looked at before LibTorch unpickles them: it trusts what they say of its own stack and of classes.
#pragma once
#include <string>
#include <string_view>

namespace evoke {

/// Throws Failure::input unless the pickle is one that torch.jit.save could have written: only its opcodes, nothing of Python called but
/// what rebuilds dense tensors, lists and dictionaries, no value used that is not there, containers filled before they are used (so that
/// none contains itself), nested at most 1,000 deep. `where` begins the sentence.
void check_pickle(std::string_view bytes, const std::string& where);

/// Throws Failure::input for code or a type's name whose brackets, blocks or expressions nest deeper than LibTorch's parser can follow.
void check_nesting(std::string_view code, const std::string& where);

}  // namespace evoke
