// dsm for C++20: names for the standard containers in the map.
//
//   auto &lines = session.object<dsm::map<dsm::string, dsm::vector<int>>>("lines");
//   std::scoped_lock lock(mutex);
//   lines.emplace("a word", 2).first->second.push_back(12);   // string, node and array lie in the map
//   auto found = lines.find("a word");
//
// A container gives its allocator to its elements, which emplace() makes in place. A dsm::string of the program's own
// needs one, too: dsm::string("text", session.allocator()); so operator[] does not take a literal.
//
// All processes must be built with the same standard library, whose layouts and hashes these are. What holds pointers
// to code, such as std::shared_ptr and std::function, does not work across processes.
#ifndef DSM_CONTAINERS_HPP
#define DSM_CONTAINERS_HPP

#include <dsm/allocator.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <scoped_allocator>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace dsm {

template <class T>
using scoped_allocator = std::scoped_allocator_adaptor<allocator<T>>;

using string = std::basic_string<char, std::char_traits<char>, allocator<char>>;

namespace detail {
// Returns the characters of a string of any kind, and any other key as it is.
template <class T>
decltype(auto) key(const T &from) {
  if constexpr (std::is_convertible_v<const T &, std::string_view>) return std::string_view(from);
  else return (from);
}
}  // namespace detail

// Order, equality and hash of keys. Strings of all kinds, which need not have the allocator of the map, are looked up
// by their characters.
struct less {
  using is_transparent = void;
  template <class T, class U>
  bool operator()(const T &a, const U &b) const {
    return detail::key(a) < detail::key(b);
  }
};
struct equal_to {
  using is_transparent = void;
  template <class T, class U>
  bool operator()(const T &a, const U &b) const {
    return detail::key(a) == detail::key(b);
  }
};
struct hash {
  using is_transparent = void;
  template <class T>
  std::size_t operator()(const T &from) const {
    return std::hash<std::remove_cvref_t<decltype(detail::key(from))>>()(detail::key(from));
  }
};

template <class T>
using vector = std::vector<T, scoped_allocator<T>>;
template <class T>
using deque = std::deque<T, scoped_allocator<T>>;
template <class T>
using list = std::list<T, scoped_allocator<T>>;
template <class T, class Compare = less>
using set = std::set<T, Compare, scoped_allocator<T>>;
template <class Key, class T, class Compare = less>
using map = std::map<Key, T, Compare, scoped_allocator<std::pair<const Key, T>>>;
template <class T, class Hash = hash, class Equal = equal_to>
using unordered_set = std::unordered_set<T, Hash, Equal, scoped_allocator<T>>;
template <class Key, class T, class Hash = hash, class Equal = equal_to>
using unordered_map = std::unordered_map<Key, T, Hash, Equal, scoped_allocator<std::pair<const Key, T>>>;

}  // namespace dsm

#endif
