// Containers in the map that several processes change: containers MODE, every process of the session; rank 0 says what
// has come out.
//
//   grow        all insert under a lock, each erases what another has inserted, and all find the same
//   pass N      blocks go from process to process, N times in each thread; none ever has two owners, and none is lost
//   die N       the same, and the last process goes on until it is killed
//   full        a container that fills the map, and what its memory is good for afterwards
//   edges       sizes, alignments and addresses at their limits and beyond
//   insert N    N inserts, after which the process waits for the end of its input
#include <dsm/containers.hpp>
#include <dsm/dsm.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

void expect(bool good, const std::string &what) {
  if (good) return;
  std::fprintf(stderr, "containers: %s\n", what.c_str());
  std::_Exit(1);
}

// Of a length that no string keeps inside itself.
std::string text(const char *what, int rank, int number) {
  return std::string(what) + " of a length beyond all short strings, of rank " + std::to_string(rank) + ", number " +
         std::to_string(number);
}

bool is(const dsm::string &a, const std::string &b) {
  return std::string_view(a) == b;
}

// A user's own struct of containers, which passes its allocator on.
struct table {
  using allocator_type = dsm::allocator<std::byte>;
  explicit table(allocator_type from) : names(from), numbers(from), order(from), last(from), queue(from), log(from) {}
  dsm::map<dsm::string, dsm::vector<dsm::string>> names;
  dsm::unordered_map<dsm::string, int> numbers;
  dsm::set<int> order;
  dsm::list<dsm::string> last;
  dsm::deque<int> queue;
  dsm::string log;
};

constexpr int keys = 24;

void grow(dsm::session &session) {
  const int rank = session.rank(), processes = session.processes();
  auto &shared = session.object<table>("table");
  auto mutex = session.mutex("table");
  for (int i = 0; i < keys; i++) {
    std::scoped_lock lock(mutex);
    auto added = shared.names.emplace(text("name", rank, i), 1).first;
    added->second.front() = text("first", rank, i);
    added->second.emplace_back(text("second", rank, i));
    shared.numbers.emplace(text("number", rank, i), i);
    shared.order.insert(rank * keys + i);
    shared.last.emplace_back(text("last", rank, i));
    shared.queue.push_back(rank);
    shared.log.push_back(static_cast<char>('a' + rank));
  }
  session.barrier();
  // What the next process has inserted, this one erases, or lets grow.
  const int other = (rank + 1) % processes;
  for (int i = 0; i < keys; i++) {
    std::scoped_lock lock(mutex);
    if (i % 2 == 0) {
      shared.names.erase(shared.names.find(text("name", other, i)));
      shared.numbers.erase(shared.numbers.find(text("number", other, i)));
      shared.order.erase(other * keys + i);
      shared.last.pop_front();
    } else {
      shared.names.find(text("name", other, i))->second.emplace_back(text("third", rank, i));
      shared.numbers.find(text("number", other, i))->second += 1000;
    }
    shared.queue.pop_front();
    shared.queue.push_back(other);
  }
  session.barrier();
  std::size_t left = static_cast<std::size_t>(processes) * keys / 2;
  expect(shared.names.size() == left && shared.numbers.size() == left && shared.order.size() == left, "the sizes");
  expect(shared.last.size() == left && shared.queue.size() == 2 * left && shared.log.size() == 2 * left, "the lengths");
  for (int each = 0; each < processes; each++) {
    for (int i = 0; i < keys; i++) {
      auto found = shared.names.find(text("name", each, i));
      auto number = shared.numbers.find(text("number", each, i));
      bool is_there = i % 2 == 1;
      expect((found != shared.names.end()) == is_there, "the names that are there");
      expect((number != shared.numbers.end()) == is_there, "the numbers that are there");
      expect(shared.order.contains(each * keys + i) == is_there, "the set");
      if (!is_there) continue;
      const auto &texts = found->second;
      expect(texts.size() == 3 && is(texts[0], text("first", each, i)) && is(texts[1], text("second", each, i)) &&
                 is(texts[2], text("third", (each + processes - 1) % processes, i)),
             "the texts of " + text("name", each, i));
      expect(number->second == 1000 + i, "the number");
    }
    expect(std::count(shared.queue.begin(), shared.queue.end(), each) == keys, "the queue");
    expect(std::count(shared.log.begin(), shared.log.end(), 'a' + each) == keys, "the log");
  }
  session.barrier();
  if (rank == processes - 1) shared.~table();
}

// A block of the map that says of itself where it lies.
struct block {
  std::array<std::uint64_t, 8> words;
  void sign() { words.fill(reinterpret_cast<std::uintptr_t>(this)); }
  bool is_signed() const {
    return std::all_of(words.begin(), words.end(),
                       [this](std::uint64_t word) { return word == reinterpret_cast<std::uintptr_t>(this); });
  }
};
static_assert(sizeof(block) == 64);

constexpr std::size_t slots = 64;
using mailbox = std::array<std::atomic<block *>, slots>;

void check_and_free(dsm::allocator<block> allocator, block *taken) {
  if (taken == nullptr) return;
  expect(taken->is_signed(), "a block that has two owners");
  taken->words.fill(0);
  allocator.deallocate(taken, 1);
}

// Puts new blocks into the mailbox, or takes and frees those that lie there. A process that only does one of both has
// too few or too many free blocks all the time, and exchanges them with the others.
void churn(dsm::session &session, mailbox &box, bool puts, unsigned seed, int rounds) {
  auto allocator = session.allocator<block>();
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1664525 + 1013904223;
    auto &slot = box[seed >> 26];
    if (!puts) {
      check_and_free(allocator, slot.exchange(nullptr));
      continue;
    }
    block *made = allocator.allocate(1), *nothing = nullptr;
    made->sign();
    if (!slot.compare_exchange_strong(nothing, made)) check_and_free(allocator, made);
  }
}

// Allocates all that there is. Returns how many blocks that was.
std::size_t count_free(dsm::session &session) {
  auto allocator = session.allocator<block>();
  std::size_t count = 0;
  try {
    for (;; count++) (void)allocator.allocate(1);
  } catch (const std::bad_alloc &) {
  }
  return count;
}

void pass(dsm::session &session, bool has_victim, int rounds) {
  const int rank = session.rank();
  // On a page of its own, as `release` wants it for atomics.
  auto area = session.named<std::byte>("mailbox", 8192);
  auto &box = *reinterpret_cast<mailbox *>((reinterpret_cast<std::uintptr_t>(area.data()) + 4095) / 4096 * 4096);
  session.barrier();
  if (has_victim && rank == session.processes() - 1) {
    for (unsigned seed = 1;; seed++) {
      churn(session, box, true, seed, rounds);
      churn(session, box, false, seed, rounds);
      if (seed > 1) continue;
      std::puts("working");
      std::fflush(stdout);
    }
  }
  const bool puts = rank % 2 == 0;
  const unsigned seed = static_cast<unsigned>(2 * rank);
  std::thread second([&] { churn(session, box, puts, seed, rounds); });
  churn(session, box, puts, seed + 1, rounds);
  second.join();
  // Past this the victim is dead.
  session.barrier();
  churn(session, box, !puts, seed, rounds);
  session.barrier();
  if (rank != 0) return;
  // Past this the others have left.
  session.barrier();
  auto allocator = session.allocator<block>();
  for (auto &slot : box)
    if (block *last = slot.exchange(nullptr)) allocator.deallocate(last, 1);
  std::printf("%zu\n", count_free(session) * sizeof(block));
}

void full(dsm::session &session) {
  auto &texts = session.object<dsm::list<dsm::string>>("texts");
  auto &numbers = session.object<dsm::list<int>>("numbers");
  const std::string long_text(300, 'x');
  auto fill = [&](auto add) {
    try {
      for (;;) add();
    } catch (const std::bad_alloc &error) {
      return std::string(error.what());
    }
  };
  std::string said;
  std::size_t first = 0;
  if (session.rank() == 0) {
    said = fill([&] { texts.emplace_back(long_text); });
    first = texts.size();
    expect(std::all_of(texts.begin(), texts.end(), [&](auto &each) { return is(each, long_text); }), "the texts");
    texts.clear();
  }
  session.barrier();
  // Another process, and blocks of another size, which are cut from those that the first has freed.
  if (session.rank() == 1) {
    fill([&] { numbers.push_back(1); });
    expect(numbers.size() * 32 > session.bytes().size() / 2, "numbers in the memory of texts");
    for (auto &each : numbers) expect(each == 1, "the numbers");
    numbers.clear();
  }
  session.barrier();
  if (session.rank() != 0) return;
  expect(first * 300 > session.bytes().size() / 2, "texts in an empty map");
  std::puts(said.c_str());
  auto allocator = session.allocator<char>();
  session.leave();
  try {
    (void)allocator.allocate(1);
  } catch (const dsm::error &error) {
    std::puts(error.what());
  }
}

template <class T>
void check_aligned(dsm::session &session) {
  std::vector<T, dsm::allocator<T>> values(3, session.allocator<T>());
  auto address = reinterpret_cast<std::uintptr_t>(values.data());
  expect(address % alignof(T) == 0 && address % 16 == 0, "an alignment of " + std::to_string(alignof(T)));
}

void edges(dsm::session &session) {
  struct alignas(32) half_line { char bytes[32]; };
  struct alignas(64) line { char bytes[64]; };
  struct alignas(128) lines { char bytes[128]; };
  struct alignas(4096) page { char bytes[4096]; };
  check_aligned<char>(session);
  check_aligned<half_line>(session);
  check_aligned<line>(session);
  check_aligned<lines>(session);
  check_aligned<page>(session);

  dsm_session *raw = session.raw(), *found = nullptr;
  void *block = nullptr;
  char outside[16];
  for (std::size_t size : {1, DSM_POOL_MAX, DSM_POOL_MAX + 1}) {
    expect(dsm_pool_alloc(raw, size, 1, &block) == DSM_OK, "a block of " + std::to_string(size));
    expect(dsm_session_at(block, &found) == DSM_OK && found == raw, "the session of a block");
    expect(dsm_pool_free(raw, block, size, 1) == DSM_OK, "its end");
  }
  expect(dsm_pool_alloc(raw, 0, 1, &block) == DSM_INVALID, "a block of 0 bytes");
  for (std::size_t align : {0, 3, 8192}) {
    expect(dsm_pool_alloc(raw, 1, align, &block) == DSM_INVALID, "an alignment of " + std::to_string(align));
    if (align < 8192) expect(dsm_pool_free(raw, block, 1, align) == DSM_INVALID, "the same, freed");
  }
  expect(dsm_pool_alloc(raw, 1, 1, nullptr) == DSM_INVALID, "nowhere to put a block");
  expect(dsm_pool_alloc(raw, std::size_t{1} << 40, 1, &block) == DSM_NO_MEMORY, "more than the map");
  expect(dsm_pool_free(raw, outside, 1, 1) == DSM_INVALID, "a block outside the map");
  auto bytes = session.bytes();
  expect(dsm_pool_free(raw, bytes.data() + bytes.size() - 16, 17, 1) == DSM_INVALID, "one across its end");
  expect(dsm_pool_free(raw, bytes.data() + 8, 8, 1) == DSM_INVALID, "no block begins there");
  expect(dsm_session_at(outside, &found) == DSM_INVALID && found == nullptr, "the session of no map");
  expect(dsm_session_at(nullptr, &found) == DSM_INVALID, "the session of NULL");

  // A program that stores to what it has freed is told so, when its block comes to be used again.
  std::vector<void *> blocks(2000);
  for (void *&each : blocks) expect(dsm_pool_alloc(raw, 64, 1, &each) == DSM_OK, "many blocks");
  for (void *each : blocks) expect(dsm_pool_free(raw, each, 64, 1) == DSM_OK, "all of them freed");
  auto stacks = session.named<std::uint64_t>("dsm pool 1", 512);
  std::uint64_t top = stacks[3] & 0xffffffff;
  expect(top != 0, "a batch of blocks of 64 bytes");
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>((top - 1) * 16), 16, std::byte{0xff});
  int status = DSM_OK;
  for (std::size_t i = 0; status == DSM_OK && i < blocks.size(); i++) status = dsm_pool_alloc(raw, 64, 1, &block);
  const std::string why = dsm_last_error();
  expect(status == DSM_INVALID && why.find("overwritten") != std::string::npos, "what was overwritten");
}

void insert(dsm::session &session, int count) {
  auto &map = session.object<dsm::map<dsm::string, dsm::string>>("map");
  for (int i = 0; i < count; i++) map.emplace(text("key", 0, i), text("value", 0, i));
  std::printf("%zu\n", map.size());
  std::fflush(stdout);
  while (std::getchar() != EOF) continue;
}

}  // namespace

int main(int count, char **arguments) {
  const std::string mode = count > 1 ? arguments[1] : "";
  const int number = count > 2 ? std::atoi(arguments[2]) : 0;
  try {
    dsm::session session;
    if (mode == "grow") grow(session);
    else if (mode == "pass") pass(session, false, number);
    else if (mode == "die") pass(session, true, number);
    else if (mode == "full") full(session);
    else if (mode == "edges") edges(session);
    else if (mode == "insert") insert(session, number);
    else return 2;
    if ((mode == "grow" || mode == "edges") && session.rank() == 0) std::puts("ok");
  } catch (const std::exception &error) {
    std::fprintf(stderr, "containers: %s\n", error.what());
    return 1;
  }
}
