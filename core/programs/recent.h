// What was made last for keys that come again. Few are kept, so that what is asked for once does not stay for ever.
#pragma once
#include <list>
#include <memory>
#include <mutex>
#include <utility>

namespace evoke {

/// At most `most` values by key; where there is no room the one that was used longest ago is let go. Safe to share between threads.
template <class Key, class Value>
class Recent {
 public:
  explicit Recent(size_t most) : most_(most) {}

  /// What make() gave for this key, made anew where it has been let go. Whoever holds a value keeps it alive.
  template <class Make>
  std::shared_ptr<Value> get(const Key& key, Make make) {
    const std::lock_guard<std::mutex> locked(guard_);
    for (auto kept = values_.begin(); kept != values_.end(); ++kept)
      if (kept->first == key) {
        values_.splice(values_.begin(), values_, kept);
        return kept->second;
      }
    values_.emplace_front(key, std::make_shared<Value>(make()));
    if (values_.size() > most_) values_.pop_back();
    return values_.front().second;
  }

 private:
  size_t most_;
  std::mutex guard_;
  std::list<std::pair<Key, std::shared_ptr<Value>>> values_;  // the one used last first
};

/// Sets of taps for which a program stays prepared: each may hold a copy of the convolutions' weights.
constexpr size_t most_plans = 8;

}  // namespace evoke
