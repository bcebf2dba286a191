// Objects in the map, by the C++ classes: several threads in each of several processes.
#include <dsm/dsm.hpp>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

#define CHECK(condition)                                                                   \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      std::fprintf(stderr, "%s:%d: this must hold: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                        \
    }                                                                                      \
  } while (0)

namespace {

constexpr int threads = 2, turns = 25;

struct shared {
  dsm::in_map::mutex first, second;
  dsm::in_map::shared_mutex table;
  dsm::in_map::condition_variable changed;
  dsm::in_map::semaphore semaphore;
  dsm::in_map::barrier barrier;
  dsm::in_map::mutex robust;
  std::mutex plain;  // a pthread_mutex_t
  long count, twin, turn, rows, lasts, plain_count;
};

template <class Call>
int code_of(Call call) {
  try {
    call();
  } catch (const dsm::error &error) {
    return error.code();
  }
  return DSM_OK;
}

void work(shared &all, int self, int everyone) {
  for (int i = 0; i < turns; i++) {
    {
      std::scoped_lock both(all.first, all.second);
      CHECK(all.count == all.twin);
      all.count += 1;
      all.twin += 1;
    }
    {
      std::unique_lock lock(all.first);
      if (i % 2 == 0) all.changed.wait(lock, [&] { return all.turn % everyone == self; });
      else CHECK(all.changed.wait_for(lock, 60s, [&] { return all.turn % everyone == self; }));
      all.turn += 1;
      all.changed.notify_all();
    }
    if (i % 4 == 0) {
      std::unique_lock lock(all.table);
      all.rows += 1;
    } else {
      std::shared_lock lock(all.table);
      CHECK(all.rows >= 0);
    }
    {
      std::lock_guard lock(all.plain);
      all.plain_count += 1;
    }
    all.semaphore.acquire();
    all.count -= 1;
    all.count += 1;
    all.semaphore.release();
    if (all.barrier.arrive_and_wait()) all.lasts += 1;
    all.barrier.arrive_and_wait();
  }
}

void refuse(shared &all) {
  std::unique_lock lock(all.first);
  CHECK(code_of([&] { all.first.lock(); }) == DSM_BUSY);
  std::thread([&] {
    CHECK(!all.first.try_lock());
    CHECK(!all.first.try_lock_for(20ms));
    CHECK(code_of([&] { all.first.unlock(); }) == DSM_NOT_OWNER);
    CHECK(!all.semaphore.try_acquire_for(20ms));
  }).join();
  CHECK(all.changed.wait_for(lock, 20ms) == std::cv_status::timeout);
  CHECK(lock.owns_lock());
  lock.unlock();
  CHECK(code_of([&] { all.changed.wait(lock); }) == DSM_NOT_OWNER);
  std::shared_lock reads(all.table);
  CHECK(!all.table.try_lock());
  CHECK(all.table.try_lock_shared());
  all.table.unlock_shared();
  dsm::in_map::mutex elsewhere{};
  CHECK(code_of([&] { elsewhere.lock(); }) == DSM_INVALID);
}

// Threads of one process: std::condition_variable_any has a mutex of its own.
void any(shared &all) {
  std::condition_variable_any changed;
  bool done = false;
  std::thread other([&] {
    std::lock_guard lock(all.second);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(all.second);
  changed.wait(lock, [&] { return done; });
  lock.unlock();
  other.join();
}

}  // namespace

int main(int argc, char **) {
  dsm::session session;
  auto &all = session.named<shared>("shared");
  int everyone = threads * session.processes();
  if (argc > 1) {
    // The owner of a mutex dies.
    if (session.rank() != 0) {
      all.robust.lock();
      session.semaphore("locked", 0).post();
      std::raise(SIGKILL);
    }
    session.semaphore("locked", 0).wait();
    CHECK(code_of([&] { all.robust.lock(); }) == DSM_OWNER_DIED);
    CHECK(all.robust.lock_checked());
    all.robust.unlock();
    CHECK(!all.robust.lock_checked());
    all.robust.unlock();
    std::puts("ok");
    return 0;
  }
  if (session.rank() == 0) {
    refuse(all);
    any(all);
    all.semaphore.init(1);
    all.barrier.init(static_cast<std::uint32_t>(everyone));
  }
  session.barrier();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; i++) workers.emplace_back(work, std::ref(all), session.rank() * threads + i, everyone);
  for (auto &worker : workers) worker.join();
  session.barrier();
  CHECK(all.count == static_cast<long>(everyone) * turns && all.count == all.twin && all.turn == all.count);
  CHECK(all.rows == static_cast<long>(everyone) * ((turns + 3) / 4));
  CHECK(all.lasts == turns && all.plain_count == all.count);
  if (session.rank() == 0) std::puts("ok");
}
