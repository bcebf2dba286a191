// dsm for C++20: an allocator of the map for standard containers. Part of dsm/dsm.hpp.
#ifndef DSM_ALLOCATOR_HPP
#define DSM_ALLOCATOR_HPP

#include <dsm/dsm.h>
#include <dsm/error.hpp>

#include <cstddef>
#include <limits>
#include <new>

namespace dsm {

// An allocator of blocks of the map. It holds the address of the map, which is the same in every process, so a
// container that lies in the map with all its elements can be read and changed by every process of the session:
// session.object() makes one, and dsm/containers.hpp has names for the usual kinds. Threads and processes that change
// one container at the same time need a lock, as usual.
//
// Small blocks come from the pool of the process, mostly without a word to others: dsm_pool_alloc() in dsm.h says what
// it costs, and what is lost with a process that dies. Memory that a process frees need not be its own.
//
// allocate() throws out_of_memory, a std::bad_alloc, if the map has no room, and error in a process that has not joined
// the session (DSM_INVALID) or has left it (DSM_LEFT). There, deallocate() does nothing.
template <class T>
class allocator {
 public:
  using value_type = T;
  explicit allocator(dsm_session *session) noexcept : map_(session == nullptr ? nullptr : dsm_address(session)) {}
  template <class U>
  allocator(const allocator<U> &other) noexcept : map_(other.map()) {}
  [[nodiscard]] T *allocate(std::size_t count) {
    static_assert(alignof(T) <= 4096, "the map aligns to a page at most");
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    dsm_session *here = nullptr;
    detail::check(dsm_session_at(map_, &here));
    void *block = nullptr;
    int status = dsm_pool_alloc(here, bytes(count), alignof(T), &block);
    if (status == DSM_NO_MEMORY) throw out_of_memory(dsm_last_error());
    detail::check(status);
    return static_cast<T *>(block);
  }
  void deallocate(T *block, std::size_t count) noexcept {
    dsm_session *here = session();
    if (here != nullptr) dsm_pool_free(here, block, bytes(count), alignof(T));
  }
  // Returns this process's handle of the session; nullptr: it has not joined it, or has left it.
  dsm_session *session() const noexcept {
    dsm_session *here = nullptr;
    return dsm_session_at(map_, &here) == DSM_OK ? here : nullptr;
  }
  // Returns the first byte of the map.
  void *map() const noexcept { return map_; }
  template <class U>
  friend bool operator==(const allocator &a, const allocator<U> &b) noexcept {
    return a.map() == b.map();
  }

 private:
  static std::size_t bytes(std::size_t count) noexcept { return count == 0 ? 1 : count * sizeof(T); }
  void *map_;
};

}  // namespace dsm

#endif
