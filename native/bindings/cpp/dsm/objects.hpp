// dsm for C++20: mutexes, condition variables, semaphores and barriers that lie in the map. Part of dsm/dsm.hpp.
//
//   struct box { dsm::in_map::mutex mutex; dsm::in_map::condition_variable changed; int number; };
//   box &shared = session.named<box>("box");  // zero bytes are a valid start
//   std::unique_lock lock(shared.mutex);
//   shared.changed.wait(lock, [&] { return shared.number > 0; });
//
// They are the types of C (dsm_mutex ...), and the same objects. They lie in the map alone, at multiples of 64 bytes; any
// thread of any process of the session may use one. A copy is another object, in its first state.
#ifndef DSM_OBJECTS_HPP
#define DSM_OBJECTS_HPP

#include <dsm/dsm.h>
#include <dsm/error.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <type_traits>

namespace dsm::in_map {

namespace detail {
using dsm::detail::check;
using dsm::detail::timed;
using dsm::detail::whole_ms;

// Milliseconds until then. A time point far ahead, counted in hours for example, may overflow the clock's own units.
template <class Clock, class Duration>
auto until(std::chrono::time_point<Clock, Duration> then) {
  using seconds = std::chrono::duration<double>;
  return seconds(then.time_since_epoch()) - seconds(Clock::now().time_since_epoch());
}

// The result of locking: false if it was not possible in time. A lock whose earlier owner has died is given back.
template <class GiveBack>
bool locked(int status, GiveBack give_back) {
  if (status == DSM_AGAIN || status == DSM_TIMEOUT) return false;
  if (status == DSM_OWNER_DIED) {
    give_back();
    throw owner_died(status, "the process of an earlier owner died while it had the lock");
  }
  check(status);
  return true;
}

// Unlocking at the end of a scope that an exception leaves must not throw another one.
inline void unlocked(int status) {
  if (std::uncaught_exceptions() == 0) check(status);
}
}  // namespace detail

// A mutex for std::lock_guard, std::scoped_lock and std::unique_lock. Not recursive: DSM_BUSY. Where an earlier owner's
// process has died or left with it, locking throws owner_died, and the mutex is not locked; so does the next locking, until
// one thread has restored the data:
//
//   if (shared.mutex.lock_checked()) rebuild(shared);  // it is locked, and true: an owner died
//   std::lock_guard guard(shared.mutex, std::adopt_lock);
class mutex {
 public:
  void lock() { locked(dsm_mutex_lock(&raw_)); }
  [[nodiscard]] bool try_lock() { return locked(dsm_mutex_trylock(&raw_)); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    return locked(detail::timed(detail::whole_ms(time), [this](std::int32_t part_ms) {
      return dsm_mutex_timedlock(&raw_, static_cast<std::uint32_t>(part_ms));
    }));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> then) {
    return try_lock_for(detail::until(then));
  }
  // Locks. True: an earlier owner has died; restore the data, and then unlock().
  [[nodiscard]] bool lock_checked() {
    int status = dsm_mutex_lock(&raw_);
    if (status != DSM_OWNER_DIED) detail::check(status);
    return status == DSM_OWNER_DIED;
  }
  void unlock() { detail::unlocked(dsm_mutex_unlock(&raw_)); }
  // For an owner that has not restored the data: the next one hears of the death, too.
  void unlock_unmended() { detail::unlocked(dsm_mutex_unlock_unmended(&raw_)); }
  dsm_mutex *raw() noexcept { return &raw_; }

 private:
  bool locked(int status) {
    return detail::locked(status, [this] { dsm_mutex_unlock_unmended(&raw_); });
  }
  dsm_mutex raw_;
};

// A reader-writer lock for std::shared_lock, std::unique_lock and their like. After a writer's death locking, also for
// reading, throws owner_died, until a writer has restored the data: lock_checked().
class shared_mutex {
 public:
  void lock() { locked(dsm_rwlock_wrlock(&raw_)); }
  [[nodiscard]] bool try_lock() { return locked(dsm_rwlock_trywrlock(&raw_)); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    return locked(detail::timed(detail::whole_ms(time), [this](std::int32_t part_ms) {
      return dsm_rwlock_timedwrlock(&raw_, static_cast<std::uint32_t>(part_ms));
    }));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> then) {
    return try_lock_for(detail::until(then));
  }
  [[nodiscard]] bool lock_checked() {
    int status = dsm_rwlock_wrlock(&raw_);
    if (status != DSM_OWNER_DIED) detail::check(status);
    return status == DSM_OWNER_DIED;
  }
  void unlock() { detail::unlocked(dsm_rwlock_unlock(&raw_)); }
  void unlock_unmended() { detail::unlocked(dsm_rwlock_unlock_unmended(&raw_)); }

  void lock_shared() { locked(dsm_rwlock_rdlock(&raw_)); }
  [[nodiscard]] bool try_lock_shared() { return locked(dsm_rwlock_tryrdlock(&raw_)); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(std::chrono::duration<Rep, Period> time) {
    return locked(detail::timed(detail::whole_ms(time), [this](std::int32_t part_ms) {
      return dsm_rwlock_timedrdlock(&raw_, static_cast<std::uint32_t>(part_ms));
    }));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> then) {
    return try_lock_shared_for(detail::until(then));
  }
  void unlock_shared() { detail::unlocked(dsm_rwlock_unlock(&raw_)); }
  dsm_rwlock *raw() noexcept { return &raw_; }

 private:
  bool locked(int status) {
    return detail::locked(status, [this] { dsm_rwlock_unlock_unmended(&raw_); });
  }
  dsm_rwlock raw_;
};

// A condition variable, with a mutex in the map. A wait that throws does not have the mutex, and `lock` does not own it.
class condition_variable {
 public:
  void wait(std::unique_lock<mutex> &lock) { waited(lock, dsm_cond_wait(&raw_, owned(lock))); }
  template <class Predicate>
  void wait(std::unique_lock<mutex> &lock, Predicate is_done) {
    while (!is_done()) wait(lock);
  }
  template <class Rep, class Period>
  std::cv_status wait_for(std::unique_lock<mutex> &lock, std::chrono::duration<Rep, Period> time) {
    int status = detail::timed(detail::whole_ms(time), [&](std::int32_t part_ms) {
      return dsm_cond_timedwait(&raw_, owned(lock), static_cast<std::uint32_t>(part_ms));
    });
    return waited(lock, status);
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(std::unique_lock<mutex> &lock, std::chrono::duration<Rep, Period> time, Predicate is_done) {
    auto then = std::chrono::steady_clock::now() + std::chrono::milliseconds(detail::whole_ms(time));
    return wait_until(lock, then, is_done);
  }
  template <class Clock, class Duration>
  std::cv_status wait_until(std::unique_lock<mutex> &lock, std::chrono::time_point<Clock, Duration> then) {
    return wait_for(lock, detail::until(then));
  }
  template <class Clock, class Duration, class Predicate>
  bool wait_until(std::unique_lock<mutex> &lock, std::chrono::time_point<Clock, Duration> then, Predicate is_done) {
    while (!is_done())
      if (wait_until(lock, then) == std::cv_status::timeout) return is_done();
    return true;
  }
  void notify_one() { detail::check(dsm_cond_signal(&raw_)); }
  void notify_all() { detail::check(dsm_cond_broadcast(&raw_)); }
  dsm_cond *raw() noexcept { return &raw_; }

 private:
  static dsm_mutex *owned(std::unique_lock<mutex> &lock) {
    if (!lock.owns_lock()) throw error(DSM_NOT_OWNER, "the std::unique_lock does not own its mutex");
    return lock.mutex()->raw();
  }
  static std::cv_status waited(std::unique_lock<mutex> &lock, int status) {
    switch (status) {
      case DSM_OK: return std::cv_status::no_timeout;
      case DSM_TIMEOUT: return std::cv_status::timeout;
      case DSM_OWNER_DIED:
        lock.release()->unlock_unmended();
        throw owner_died(status, "the process of an owner of the mutex died while it had it");
      case DSM_LIMIT: break;  // the wait did not begin
      default: lock.release();
    }
    throw error(status, dsm_last_error());
  }
  dsm_cond raw_;
};

// A semaphore; zero bytes are the value 0.
class semaphore {
 public:
  // Gives it that value. DSM_BUSY: threads wait for it.
  void init(std::uint32_t value) { detail::check(dsm_semaphore_init(&raw_, value)); }
  void acquire() { detail::check(dsm_semaphore_wait(&raw_)); }
  [[nodiscard]] bool try_acquire() { return dsm::detail::done(dsm_semaphore_trywait(&raw_), DSM_AGAIN); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> time) {
    auto wait = [this](std::int32_t part_ms) {
      return dsm_semaphore_timedwait(&raw_, static_cast<std::uint32_t>(part_ms));
    };
    return dsm::detail::done(detail::timed(detail::whole_ms(time), wait), DSM_TIMEOUT);
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(std::chrono::time_point<Clock, Duration> then) {
    return try_acquire_for(detail::until(then));
  }
  void release(std::ptrdiff_t count = 1) {
    for (; count > 0; count--) detail::check(dsm_semaphore_post(&raw_));
  }
  dsm_semaphore *raw() noexcept { return &raw_; }

 private:
  dsm_semaphore raw_;
};

// A barrier; zero bytes are one of as many threads as the session has processes.
class barrier {
 public:
  // Makes it one of `count` threads. DSM_BUSY: threads wait in it.
  void init(std::uint32_t count) { detail::check(dsm_barrier_init(&raw_, count)); }
  // Waits for all. True in one of the threads: it was the last.
  bool arrive_and_wait() {
    int is_last = 0;
    detail::check(dsm_barrier_arrive_and_wait(&raw_, &is_last));
    return is_last != 0;
  }
  // False: timed out, and this thread is out of the barrier again.
  template <class Rep, class Period>
  [[nodiscard]] bool arrive_and_wait_for(std::chrono::duration<Rep, Period> time) {
    auto wait = [this](std::int32_t part_ms) {
      return dsm_barrier_arrive_and_wait_timed(&raw_, static_cast<std::uint32_t>(part_ms), nullptr);
    };
    return dsm::detail::done(detail::timed(detail::whole_ms(time), wait), DSM_TIMEOUT);
  }
  struct dsm_barrier *raw() noexcept { return &raw_; }

 private:
  struct dsm_barrier raw_;
};

static_assert(std::is_trivially_copyable_v<mutex> && std::is_standard_layout_v<mutex> && sizeof(mutex) == 64);
static_assert(sizeof(shared_mutex) == 64 && sizeof(condition_variable) == 64);
static_assert(sizeof(semaphore) == 64 && sizeof(barrier) == 64);

}  // namespace dsm::in_map

#endif
