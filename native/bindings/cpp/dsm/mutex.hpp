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
// Where this process's threads take turns for one lock of a session, which belongs to the process: DSM_BUSY for a second
// thread. All mutexes of one name share one.
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

  // Takes the turn. False: it is another thread's until then (nothing: for as long as it takes).
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
  // This process has the lock.
  void locked() {
    std::lock_guard guard(mutex_);
    locked_ = true;
    exceptions_ = std::uncaught_exceptions();
  }
  struct state {
    bool locked;   // by a mutex, in whichever thread
    bool unwinds;  // a scope is left by an exception thrown since
  };
  // Before unlocking.
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
  // Never destroyed: mutexes may outlive what is.
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

// A mutex across nodes, for std::scoped_lock, std::unique_lock and their like: the session's lock of that name, the same
// as dsm_lock()'s in C and those of the other languages. Threads of one process take turns, as with a std::mutex; one that
// has it already gets DSM_BUSY. So does any thread while another part of the process has it by dsm_lock() itself.
//
// In a session that goes on after a loss (on_loss "continue") the mutex passes on when its owner dies or leaves, and what
// it guards may be half done then. A lock guard leaves no room for an outcome, and a flag would be overlooked; so `recover`
// is called, with the mutex locked, before locking returns. What it throws comes out of lock() and its like, with the
// mutex unlocked, and the next owner is told, too. Without `recover` that is owner_died.
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
  bool try_lock() {
    return turns_->take(detail::turns::clock::now()) && finish(dsm_lock_try(session_, name_.c_str()));
  }
  template <class Rep, class Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    auto until = detail::turns::clock::now() + std::chrono::milliseconds(detail::whole_ms(time));
    if (!turns_->take(until)) return false;
    return finish(detail::timed(detail::whole_ms(until - detail::turns::clock::now()), [this](std::int32_t part_ms) {
      return dsm_lock_timed(session_, name_.c_str(), static_cast<std::uint32_t>(part_ms));
    }));
  }
  template <class Clock, class Duration>
  bool try_lock_until(std::chrono::time_point<Clock, Duration> until) {
    // A time far ahead, counted in hours say, has no place in the clock's own units.
    using seconds = std::chrono::duration<double>;
    return try_lock_for(seconds(until.time_since_epoch()) - seconds(Clock::now().time_since_epoch()));
  }
  // At the end of a scope that an exception leaves it throws nothing, since that would end the program; and where
  // `recover` was called for this scope, the next owner is told of the death, too.
  void unlock() {
    auto [locked, unwinds] = turns_->unlocks();
    int status = unwinds ? dsm_unlock_unmended(session_, name_.c_str()) : dsm_unlock(session_, name_.c_str());
    if (locked) turns_->give();
    if (!unwinds) detail::check(status);
  }
  // Like unlock(), by an owner that was told of a death and has not put things in order: the next one is told, too.
  void unlock_unmended() {
    bool locked = turns_->unlocks().locked;
    int status = dsm_unlock_unmended(session_, name_.c_str());
    if (locked) turns_->give();
    detail::check(status);
  }

 private:
  // The turn is ours. False: the lock is not.
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
