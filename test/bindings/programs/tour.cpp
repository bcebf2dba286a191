// Everything dsm.hpp offers, once, by every process of the session; rank 0 says "ok" when all has come out right.
#include <dsm/dsm.hpp>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

namespace {

struct point {
  double x, y;
  dsm::ptr<point> next;
};

void expect(bool good, const char *what) {
  if (good) return;
  std::fprintf(stderr, "tour: %s\n", what);
  std::exit(1);
}

template <class Call>
int code_of(Call call) {
  try {
    call();
  } catch (const dsm::error &error) {
    return error.code();
  }
  return DSM_OK;
}

// Threads of one process take turns for a mutex, which belongs to the process.
void threads(dsm::session &session) {
  auto &sum = session.named<long>("sum of threads");
  auto &waits = session.named<long>("waits of threads");
  std::vector<std::thread> all;
  for (int i = 0; i < 4; i++)
    all.emplace_back([&session, &sum, &waits] {
      auto mutex = session.mutex("threads");
      for (int round = 0; round < 10; round++) {
        std::scoped_lock lock(mutex);
        sum += 1;
        // In whose turn no other thread gets it, and no other mutex of that name.
        auto same = session.mutex("threads");
        bool got = true;
        std::thread([&] { got = same.try_lock() || same.try_lock_for(std::chrono::milliseconds(1)); }).join();
        waits += got ? 0 : 1;
      }
    });
  for (auto &thread : all) thread.join();
  session.barrier();
  expect(sum == 40L * session.processes() && waits == sum, "threads that take turns");

  using namespace std::chrono_literals;
  auto other = session.mutex("other" + std::to_string(session.rank()));
  {
    std::scoped_lock lock(other);
    expect(code_of([&] { other.lock(); }) == DSM_BUSY, "a thread that has the mutex");
    expect(code_of([&] { (void)session.mutex("other" + std::to_string(session.rank())).try_lock(); }) == DSM_BUSY,
           "a thread that has the mutex by another object");
  }
  expect(other.try_lock_until(std::chrono::time_point_cast<std::chrono::hours>(std::chrono::system_clock::now()) + 24h * 365 * 1000), "a time beyond all limits");
  // By another thread, as std::mutex would not have it.
  std::thread([&] { other.unlock(); }).join();
  expect(other.try_lock_for(std::chrono::duration<double>::max()), "the longest time");
  other.unlock();
  expect(other.try_lock_for(-1s), "a time that is over");
  other.unlock();
  expect(code_of([&] { other.unlock(); }) == DSM_NOT_OWNER, "a mutex without an owner");
  expect(dsm_lock(session.raw(), "theirs") == DSM_OK, "C locks");
  expect(code_of([&] { session.mutex("theirs").lock(); }) == DSM_BUSY, "a lock that C has");
  expect(dsm_unlock(session.raw(), "theirs") == DSM_OK, "and C unlocks");
  session.barrier();
}

void times(dsm::session &session) {
  using namespace std::chrono_literals;
  auto none = session.semaphore("none", 0);
  expect(!none.wait_for(1us) && !none.wait_for(-1h), "a semaphore's short time");
  // 2^32 ms and 1 more: what is cut to 32 bits is over at once.
  auto mutex = session.mutex("held");
  if (session.rank() == 0) mutex.lock();
  session.barrier();
  if (session.rank() == 0) {
    expect(!session.barrier_for(1ms), "a barrier's short time");
    session.semaphore("go", 0).post();
    std::this_thread::sleep_for(20ms);
    mutex.unlock();
  } else if (session.rank() == 1) {
    session.semaphore("go", 0).wait();
    expect(mutex.try_lock_for(std::chrono::milliseconds(0x100000001)), "a long time");
    mutex.unlock();
  }
  expect(session.barrier_for(24h * 365 * 1000), "a barrier's long time");
  dsm::config config;
  expect(code_of([&] { config.join_timeout(0ms); }) == DSM_INVALID, "no time to join");
  expect(code_of([&] { config.join_timeout(24h * 365); }) == DSM_INVALID, "too long a time to join");
}

void tour(dsm::session &session) {
  expect(session.on_loss() == "fail", "what a loss does");
  threads(session);
  times(session);
  const int rank = session.rank(), processes = session.processes();
  auto table = session.named<int>("table", 256);
  auto &total = session.named<long>("total");
  auto &counter = session.named<std::atomic<int>>("counter");
  auto &head = session.named<dsm::ptr<point>>("head");

  table[static_cast<std::size_t>(rank)] = rank + 1;
  counter.fetch_add(5);
  {
    auto mutex = session.mutex("turn");
    std::scoped_lock lock(mutex);
    total += rank + 1;
  }
  session.barrier();
  expect(std::accumulate(table.begin(), table.end(), 0) == processes * (processes + 1) / 2, "the table's sum");
  expect(counter == 5 * processes, "the counter");
  expect(total == processes * (processes + 1) / 2, "the total");

  // A list over all processes: each puts its point in front of the one before.
  for (int turn = 0; turn < processes; turn++) {
    if (turn == rank) {
      point *mine = session.alloc<point>(1).data();
      *mine = {1.0 * rank, 0.5, head};
      head = dsm::ptr<point>(mine);
    }
    session.barrier();
  }
  int length = 0;
  for (auto at = head; at; at = at->next) length += static_cast<int>(at->x == processes - 1 - length);
  expect(length == processes, "the list");

  // A container whose elements lie in the map.
  auto &shared = session.named<std::span<int>>("numbers");
  if (rank == 0) {
    std::vector<int, dsm::allocator<int>> numbers(session.allocator<int>());
    for (int i = 0; i < 1000; i++) numbers.push_back(i);
    shared = session.alloc<int>(numbers.size());
    std::copy(numbers.begin(), numbers.end(), shared.begin());
  }
  session.barrier();
  expect(std::accumulate(shared.begin(), shared.end(), 0) == 499500, "the vector's elements");

  auto part = session.named<unsigned char>("picture", 20000);
  auto mine = part.subspan(static_cast<std::size_t>(rank) * 20000 / static_cast<std::size_t>(processes), 100);
  {
    auto hole = session.hole(mine);
    for (auto &byte : mine) byte = static_cast<unsigned char>(rank + 1);
    if (rank == 0) hole.fill();
  }
  session.barrier();
  for (int other = 0; other < processes; other++)
    expect(part[static_cast<std::size_t>(other) * 20000 / static_cast<std::size_t>(processes) + 99] == other + 1,
           "a hole that was filled");

  auto &flag = session.named<std::atomic<std::uint32_t>>("flag");
  auto &asleep = reinterpret_cast<std::uint32_t &>(flag);
  if (rank == 0) {
    flag = 1;
    session.wake(asleep, 1000);
  } else {
    while (flag == 0) session.wait_while(asleep, 0u);
  }
  session.barrier();
  expect(!session.wait_while(asleep, 1u, std::chrono::milliseconds(1)), "a wait that ends");

  auto items = session.semaphore("items", 0);
  if (rank == 0)
    for (int i = 1; i < processes; i++) items.post();
  else
    items.wait();
  session.barrier();
  expect(!items.try_wait() && !items.wait_for(std::chrono::milliseconds(1)), "an empty semaphore");

  for (const std::string &name : {std::string("a\0b", 3), std::string("a\xc2\x85"), std::string("\xe2\x80\xae"),
                                  std::string("\xff"), std::string("\xed\xa0\x80"), std::string("\xc0\x80")}) {
    expect(code_of([&] { (void)session.semaphore(name).try_wait(); }) == DSM_INVALID, "a semaphore of that name");
    expect(code_of([&] { (void)session.mutex(name).try_lock(); }) == DSM_INVALID, "a mutex of that name");
    expect(code_of([&] { session.named<int>(name); }) == DSM_INVALID, "a block of that name");
    auto join = [&] {
      dsm::config other;
      other.session(name);
      dsm::session joined(other);
    };
    expect(code_of(join) == DSM_INVALID, "a session of that name");
  }
  for (std::chrono::milliseconds time : {std::chrono::milliseconds(-1), std::chrono::milliseconds(0x1'0000'0001)}) {
    expect(code_of([&] { dsm::config().join_timeout(time); }) == DSM_INVALID, "a time to join of that kind");
  }
  expect(code_of([&] { session.view<double>(4); }) == DSM_INVALID, "a view that is not aligned");
  expect(code_of([&] { session.view<double>(0, SIZE_MAX / 8); }) == DSM_INVALID, "a view beyond the map");
  expect(code_of([&] { session.named<int>("table", 255); }) == DSM_MISMATCH, "a block of another size");
  expect(code_of([&] { session.free(table.subspan(1)); }) == DSM_INVALID, "a block that is none");
  bool none = false;
  try {
    std::vector<char, dsm::allocator<char>> large(std::size_t{1} << 40, session.allocator<char>());
  } catch (const std::bad_alloc &) {
    none = true;
  }
  expect(none, "more than the map can hold");
  session.barrier();
}

}  // namespace

int main() {
  try {
    dsm::session first;
    dsm::session session = std::move(first);
    tour(session);
    const bool says = session.rank() == 0;
    auto mutex = session.mutex("last" + std::to_string(session.rank()));
    try {
      std::scoped_lock lock(mutex);
      session.leave();
      throw std::runtime_error("a scope that an exception leaves when there is nothing to unlock");
    } catch (const std::runtime_error &) {
    }
    if (says) std::puts("ok");
  } catch (const dsm::error &error) {
    std::fprintf(stderr, "tour: %s\n", error.what());
    return 1;
  }
}
