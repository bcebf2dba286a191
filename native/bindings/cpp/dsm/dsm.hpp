// dsm for C++20: sessions, blocks, holes, semaphores and locks as objects, over the C interface in dsm/dsm.h.
//
//   dsm::session session;                                // settings from DSM_*, which `dsm run` sets
//   auto grid = session.named<double>("grid", 1024);     // std::span<double>, the same in every process
//   grid[session.rank()] += 1.0;                         // a plain write, shared by all
//   session.barrier();
//
// Every call that fails throws dsm::error, which carries the status and its text. Calls on an object that was moved
// from fail with DSM_INVALID, those on a session that was left with DSM_LEFT. Threads: as in dsm.h; two threads must
// not change one object at the same time.
#ifndef DSM_HPP
#define DSM_HPP

#include <dsm/allocator.hpp>
#include <dsm/dsm.h>
#include <dsm/error.hpp>
#include <dsm/mutex.hpp>
#include <dsm/objects.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace dsm {

// A type that may lie in the map. Other processes see its bytes, so these must be valid in every process; pointers into
// the map are.
template <class T>
concept shareable = std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>;

// A pointer into the map. It is valid in every process of the session and may itself lie in the map. An ordinary
// pointer works too; this type documents the fact, and converts.
template <class T>
class ptr {
 public:
  using element_type = T;
  constexpr ptr() noexcept = default;
  constexpr ptr(std::nullptr_t) noexcept {}
  constexpr explicit ptr(T *to) noexcept : to_(to) {}
  constexpr T *get() const noexcept { return to_; }
  constexpr T &operator*() const noexcept { return *to_; }
  constexpr T *operator->() const noexcept { return to_; }
  constexpr T &operator[](std::ptrdiff_t index) const noexcept { return to_[index]; }
  constexpr explicit operator bool() const noexcept { return to_ != nullptr; }
  friend constexpr auto operator<=>(ptr, ptr) noexcept = default;

 private:
  T *to_ = nullptr;
};

// Settings for joining; those that are not set come from the DSM_* variables.
class config {
 public:
  config() { detail::check(dsm_config_init(&raw_)); }
  config &session(std::string name) { return keep(name_, std::move(name), raw_.session); }
  config &node(std::string name) { return keep(node_, std::move(name), raw_.node); }
  config &daemon(std::string address) { return keep(daemon_, std::move(address), raw_.daemon); }
  // "sequential", "release" or "pipelined".
  config &order(std::string name) { return keep(order_, std::move(name), raw_.order); }
  // "fail" or "continue": what happens when a process dies without leaving.
  config &on_loss(std::string name) { return keep(on_loss_, std::move(name), raw_.on_loss); }
  // Path of the dsm program.
  config &binary(std::string path) { return keep(binary_, std::move(path), raw_.binary); }
  config &processes(std::uint32_t count) { return raw_.processes = count, *this; }
  config &size(std::uint64_t bytes) { return raw_.size = bytes, *this; }
  config &rank(std::int32_t wished) { return raw_.rank = wished, *this; }
  config &join_timeout(std::chrono::milliseconds time) {
    if (time.count() < 1 || time.count() > UINT32_MAX)
      throw error(DSM_INVALID, "the time to join is not 1 to 4294967295 ms");
    return raw_.join_timeout_ms = static_cast<std::uint32_t>(time.count()), *this;
  }
  // Whether to start a daemon where none listens on a loopback address.
  config &autostart(bool allowed) { return raw_.autostart = allowed ? 1 : 0, *this; }
  // Whether processes may join while the session runs.
  config &elastic(bool is) { return raw_.elastic = is ? 1 : 0, *this; }
  config &direct(bool allowed) { return raw_.direct = allowed ? 1 : 0, *this; }
  // Valid as long as this object is.
  const dsm_config *raw() const noexcept { return &raw_; }

  config(const config &) = delete;
  config &operator=(const config &) = delete;

 private:
  config &keep(std::string &place, std::string &&text, const char *&raw) {
    place = detail::text(std::move(text));
    raw = place.c_str();
    return *this;
  }
  dsm_config raw_{};
  std::string name_, node_, daemon_, order_, on_loss_, binary_;
};

// A hole over part of the map. Filled by fill() or at the end of its scope; only fill() reports a failure.
class hole {
 public:
  hole(dsm_session *session, void *address, std::size_t bytes) : session_(session) {
    detail::check(dsm_hole_dig(session, address, bytes, &id_));
  }
  hole(hole &&other) noexcept : session_(other.session_), id_(std::exchange(other.id_, 0)) {}
  hole &operator=(hole &&) = delete;
  ~hole() {
    if (id_ != 0) dsm_hole_fill(session_, id_);
  }
  void fill() { detail::check(dsm_hole_fill(session_, std::exchange(id_, 0))); }

 private:
  dsm_session *session_;
  int id_ = 0;
};

// A named semaphore of the session.
class semaphore {
 public:
  semaphore(dsm_session *session, std::string name, std::uint32_t initial)
      : session_(session), name_(detail::text(std::move(name))), initial_(initial) {}
  void wait() { detail::check(dsm_sem_wait(session_, name_.c_str(), initial_)); }
  void post() { detail::check(dsm_sem_post(session_, name_.c_str(), initial_)); }
  [[nodiscard]] bool try_wait() { return detail::done(dsm_sem_trywait(session_, name_.c_str(), initial_), DSM_AGAIN); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> time) {
    auto wait = [&](std::int32_t part_ms) {
      return dsm_sem_timedwait(session_, name_.c_str(), initial_, static_cast<std::uint32_t>(part_ms));
    };
    return detail::done(detail::timed(detail::whole_ms(time), wait), DSM_TIMEOUT);
  }

 private:
  dsm_session *session_;
  std::string name_;
  std::uint32_t initial_;
};

// A session that this process has joined, and its shared memory. The destructor leaves the session.
class session {
 public:
  session() { detail::check(dsm_open(nullptr, &raw_)); }
  explicit session(const config &how) { detail::check(dsm_open(how.raw(), &raw_)); }
  session(session &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  session &operator=(session &&other) noexcept {
    if (this != &other) {
      if (raw_ != nullptr) dsm_close(raw_);
      raw_ = std::exchange(other.raw_, nullptr);
    }
    return *this;
  }
  ~session() {
    if (raw_ != nullptr) dsm_close(raw_);
  }
  // Leaves now; throws if that fails. Views keep the last state of the map.
  void leave() { detail::check(dsm_close(std::exchange(raw_, nullptr))); }

  dsm_session *raw() const noexcept { return raw_; }
  int rank() const noexcept { return dsm_rank(raw_); }
  int processes() const noexcept { return dsm_processes(raw_); }
  std::string node() const { return dsm_node(raw_); }
  std::string name() const { return dsm_name(raw_); }
  std::string order() const { return dsm_order(raw_); }
  std::string on_loss() const { return dsm_on_loss(raw_); }
  bool is_direct() const noexcept { return dsm_is_direct(raw_) != 0; }

  // The whole map.
  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte *>(dsm_address(raw_)), dsm_size(raw_)};
  }
  // Returns `count` elements (default: all that fit) starting at byte `offset` of the map.
  template <shareable T>
  std::span<T> view(std::size_t offset = 0, std::optional<std::size_t> count = std::nullopt) const {
    std::size_t size = dsm_size(raw_);
    std::size_t room = offset <= size ? (size - offset) / sizeof(T) : 0;
    if (offset % alignof(T) != 0)
      throw error(DSM_INVALID, ("a view at byte " + std::to_string(offset) + " is not aligned; give a multiple of " +
                                std::to_string(alignof(T)))
                                   .c_str());
    if (offset > size || count.value_or(room) > room)
      throw error(DSM_INVALID, detail::outside(count.value_or(1), sizeof(T), offset, size).c_str());
    return {reinterpret_cast<T *>(bytes().data() + offset), count.value_or(room)};
  }

  // Returns the block of that name: the same in every process, zeroed at first use.
  template <shareable T>
  std::span<T> named(const std::string &name, std::size_t count) {
    void *block = nullptr;
    detail::check(dsm_named(raw_, detail::text(name).c_str(), bytes_of<T>(count), &block));
    return {static_cast<T *>(block), count};
  }
  template <shareable T>
  T &named(const std::string &name) {
    return named<T>(name, 1)[0];
  }
  // Allocates a zeroed block; any process may free it.
  template <shareable T>
  std::span<T> alloc(std::size_t count, std::size_t align = alignof(T) < 16 ? 16 : alignof(T)) {
    void *block = nullptr;
    detail::check(dsm_alloc(raw_, bytes_of<T>(count), align, &block));
    return {static_cast<T *>(block), count};
  }
  template <shareable T>
  void free(std::span<T> block) {
    detail::check(dsm_free(raw_, block.data()));
  }
  // Returns an allocator for containers in the map: see dsm::allocator.
  template <class T = std::byte>
  dsm::allocator<T> allocator() const noexcept {
    return dsm::allocator<T>(raw_);
  }
  // Returns the object of that name, the same in every process. The first call of all makes it, from the arguments and,
  // if it takes one, an allocator of the map; it stays until the session ends. Other processes wait meanwhile, by the
  // lock "dsm objects". If the maker dies or its constructor throws, the next call makes the object anew.
  //
  //   auto &words = session.object<dsm::map<dsm::string, long>>("words");
  //
  // The object must mean the same in every process: no pointers but those into the map, no virtual functions, no
  // std::mutex. Protect it by session.mutex() like any other memory.
  template <class T, class... Args>
  T &object(const std::string &name, Args &&...args) {
    static_assert(alignof(T) <= 64, "a named block is aligned to 64 bytes");
    struct place {
      alignas(64) std::byte bytes[sizeof(T)];
      std::uint32_t is_made;
    };
    void *block = nullptr;
    detail::check(dsm_named(raw_, detail::text(name).c_str(), sizeof(place), &block));
    place *found = static_cast<place *>(block);
    T *object = reinterpret_cast<T *>(found->bytes);
    dsm::mutex objects = mutex("dsm objects", [] {});
    std::lock_guard guard(objects);
    if (found->is_made == 0) {
      std::uninitialized_construct_using_allocator(object, allocator(), std::forward<Args>(args)...);
      found->is_made = 1;
    }
    return *std::launder(object);
  }

  void barrier() { detail::check(dsm_barrier_wait(raw_)); }
  // Waits in the barrier. False: timed out, and this process is out of the barrier again.
  template <class Rep, class Period>
  [[nodiscard]] bool barrier_for(std::chrono::duration<Rep, Period> time) {
    auto wait = [this](std::int32_t part_ms) { return dsm_barrier_timed(raw_, static_cast<std::uint32_t>(part_ms)); };
    return detail::done(detail::timed(detail::whole_ms(time), wait), DSM_TIMEOUT);
  }
  void fence() { detail::check(dsm_fence(raw_)); }
  dsm::semaphore semaphore(std::string name, std::uint32_t initial = 1) {
    return dsm::semaphore(raw_, std::move(name), initial);
  }
  // Returns a mutex. `recover` is called when the previous owner died while it held the mutex: see dsm::mutex.
  dsm::mutex mutex(std::string name, std::function<void()> recover = {}) {
    return dsm::mutex(raw_, std::move(name), std::move(recover));
  }
  template <class T>
  [[nodiscard]] dsm::hole hole(std::span<T> part) {
    return dsm::hole(raw_, part.data(), part.size_bytes());
  }

  // Sleeps while `place` holds `value`. False: timed out without a wake.
  template <shareable T>
    requires(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8)
  bool wait_while(const T &place, T value, std::optional<std::chrono::milliseconds> time = std::nullopt) {
    std::uint64_t wide = 0;
    std::memcpy(&wide, &value, sizeof value);
    auto wait = [&](std::int32_t part_ms) { return dsm_wait_while(raw_, &place, sizeof value, wide, part_ms); };
    int status = time ? detail::timed(detail::whole_ms(*time), wait) : wait(-1);
    return status == DSM_AGAIN || detail::done(status, DSM_TIMEOUT);
  }
  // Wakes at most `count` processes that sleep at `place`, and returns how many it woke.
  template <shareable T>
  std::uint32_t wake(const T &place, std::uint32_t count = 1) {
    std::uint32_t woken = 0;
    detail::check(dsm_wake(raw_, &place, count, &woken));
    return woken;
  }

 private:
  template <class T>
  static std::size_t bytes_of(std::size_t count) {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw error(DSM_INVALID, "more elements than memory can hold");
    return count * sizeof(T);
  }
  dsm_session *raw_ = nullptr;
};

}  // namespace dsm

#endif
