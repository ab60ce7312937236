#include "core/programs/taps.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"

namespace evoke {

void Taps::note(const std::string& stack, int slot, int made) {
  std::istringstream entries(stack);
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

std::vector<Tap> Taps::in_order() const {
  std::vector<Tap> all;
  for (const auto& [path, all_calls] : calls_) {
    const std::vector<Call>& calls = all_calls.in_order;
    for (size_t i = 0; i < calls.size(); ++i) {
      const bool last = i + 1 == calls.size();
      all.push_back({last ? path : text(path, "#", i + 1), calls[i].type, calls[i].slot, calls[i].made});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Tap& a, const Tap& b) { return a.made != b.made ? a.made < b.made : a.name.size() > b.name.size(); });
  return all;
}

}  // namespace evoke
