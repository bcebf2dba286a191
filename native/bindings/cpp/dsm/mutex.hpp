// dsm for C++20: the session's locks as mutexes. Part of dsm/dsm.hpp.
#ifndef DSM_MUTEX_HPP
#define DSM_MUTEX_HPP

#include <dsm/dsm.h>
#include <dsm/error.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace dsm {

namespace detail {
// Serialises the threads of this process on one lock of a session. The lock is owned by the process, so a second thread
// would get DSM_BUSY. All mutexes of one name share one object of this class.
class turns {
 public:
  using clock = std::chrono::steady_clock;

  static std::shared_ptr<turns> of(dsm_session *session, const std::string &name) {
    key where(session, name);
    std::lock_guard guard(all().mutex);
    std::shared_ptr<turns> found = all().known[where].lock();
    if (!found) all().known[where] = found = std::make_shared<turns>(where);
    return found;
  }
  explicit turns(std::pair<dsm_session *, std::string> where) : where_(std::move(where)) {}
  ~turns() {
    std::lock_guard guard(all().mutex);
    auto at = all().known.find(where_);
    if (at != all().known.end() && at->second.expired()) all().known.erase(at);
  }
  turns(const turns &) = delete;
  turns &operator=(const turns &) = delete;

  // Takes the turn, waiting until `until` (std::nullopt: without a limit). False: timed out.
  bool take(std::optional<clock::time_point> until) {
    std::unique_lock guard(mutex_);
    if (thread_ == std::this_thread::get_id())
      throw error(DSM_BUSY, ("this thread has mutex \"" + where_.second + "\" already").c_str());
    auto is_free = [this] { return thread_ == std::thread::id(); };
    if (!until) free_.wait(guard, is_free);
    else if (!free_.wait_until(guard, *until, is_free)) return false;
    thread_ = std::this_thread::get_id();
    return true;
  }
  // Records that this process holds the lock.
  void locked() {
    std::lock_guard guard(mutex_);
    locked_ = true;
    exceptions_ = std::uncaught_exceptions();
  }
  struct state {
    bool locked;   // by a mutex, in any thread
    bool unwinds;  // an exception thrown since then is unwinding the scope
  };
  // Clears the record before the lock is released, and returns what it was.
  state unlocks() {
    std::lock_guard guard(mutex_);
    bool was = std::exchange(locked_, false);
    return {was, was && std::uncaught_exceptions() > exceptions_};
  }
  // Ends the turn.
  void give() {
    {
      std::lock_guard guard(mutex_);
      thread_ = {};
    }
    free_.notify_one();
  }

 private:
  using key = std::pair<dsm_session *, std::string>;
  struct registry {
    std::mutex mutex;
    std::map<key, std::weak_ptr<turns>> known;
  };
  // Never destroyed: mutexes may outlive static objects.
  static registry &all() {
    static registry *const one = new registry;
    return *one;
  }
  key where_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::thread::id thread_;
  bool locked_ = false;
  int exceptions_ = 0;
};
}  // namespace detail

// A mutex across nodes, for std::scoped_lock, std::unique_lock and their like. It is the session's lock of that name,
// the same as in C (dsm_lock()) and the other languages. Threads of one process take turns, as with a std::mutex; a
// thread that holds it already gets DSM_BUSY. So does any thread while the process holds the lock by a direct
// dsm_lock().
//
// In a session with on_loss "continue" the mutex passes on when its owner dies or leaves, and the protected data may be
// inconsistent then. A lock guard cannot return an outcome, and a flag would be overlooked; so lock(), try_lock() and
// their like call `recover`, with the mutex locked, before they return. If `recover` throws, they unlock the mutex and
// rethrow, and the next owner is notified, too. Without `recover` they throw owner_died.
//
//   auto queue = session.mutex("queue", [&] { rebuild(table); });
class mutex {
 public:
  mutex(dsm_session *session, std::string name, std::function<void()> recover = {})
      : session_(session),
        name_(detail::text(std::move(name))),
        recover_(std::move(recover)),
        turns_(detail::turns::of(session, name_)) {}

  void lock() {
    turns_->take(std::nullopt);
    finish(dsm_lock(session_, name_.c_str()));
  }
  [[nodiscard]] bool try_lock() {
    return turns_->take(detail::turns::clock::now()) && finish(dsm_lock_try(session_, name_.c_str()));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    auto until = detail::turns::clock::now() + std::chrono::milliseconds(detail::whole_ms(time));
    if (!turns_->take(until)) return false;
    return finish(detail::timed(detail::whole_ms(until - detail::turns::clock::now()), [this](std::int32_t part_ms) {
      return dsm_lock_timed(session_, name_.c_str(), static_cast<std::uint32_t>(part_ms));
    }));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> until) {
    // A time point far ahead, counted in hours for example, may overflow the clock's own units.
    using seconds = std::chrono::duration<double>;
    return try_lock_for(seconds(until.time_since_epoch()) - seconds(Clock::now().time_since_epoch()));
  }
  // Unlocks. While an exception unwinds the scope it throws nothing, since that would terminate the program; if
  // `recover` was called for this scope, the next owner is notified of the death, too.
  void unlock() {
    auto [locked, unwinds] = turns_->unlocks();
    int status = unwinds ? dsm_unlock_unmended(session_, name_.c_str()) : dsm_unlock(session_, name_.c_str());
    if (locked) turns_->give();
    if (!unwinds) detail::check(status);
  }
  // Like unlock(), for an owner that was notified of a death and has not restored consistency: notifies the next one,
  // too.
  void unlock_unmended() {
    bool locked = turns_->unlocks().locked;
    int status = dsm_unlock_unmended(session_, name_.c_str());
    if (locked) turns_->give();
    detail::check(status);
  }

 private:
  // Completes locking; this thread has the turn. False: the lock was not available (it gives the turn back).
  bool finish(int status) {
    if (status != DSM_OK && status != DSM_OWNER_DIED) {
      turns_->give();
      if (status == DSM_AGAIN || status == DSM_TIMEOUT) return false;
      throw error(status, dsm_last_error());
    }
    turns_->locked();
    if (status == DSM_OWNER_DIED) recover();
    return true;
  }
  void recover() {
    try {
      if (!recover_) throw owner_died(DSM_OWNER_DIED, dsm_last_error());
      recover_();
    } catch (...) {
      turns_->unlocks();
      dsm_unlock_unmended(session_, name_.c_str());
      turns_->give();
      throw;
    }
  }

  dsm_session *session_;
  std::string name_;
  std::function<void()> recover_;
  std::shared_ptr<detail::turns> turns_;
};

}  // namespace dsm

#endif
