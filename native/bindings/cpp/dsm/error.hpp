// dsm for C++20: errors, and waits with a time. Part of dsm/dsm.hpp.
#ifndef DSM_ERROR_HPP
#define DSM_ERROR_HPP

// All headers of dsm include this one first. GCC 10 has 201709 for C++20.
#if __cplusplus <= 201703L
#error dsm for C++ needs C++20: compile with -std=c++20
#include <dsm/stop: compile with -std=c++20>  // no such file: the compiler stops here, and not after 30 more errors
#endif

#include <dsm/dsm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace dsm {

// The failure of a call: code() is an `enum dsm_status`, what() the reason.
class error : public std::runtime_error {
 public:
  error(int code, const char *reason)
      : std::runtime_error(std::string(dsm_status_name(code)) + ": " + reason), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

// Thrown by a mutex whose previous owner died, or left, while it held the mutex: see `mutex`.
class owner_died : public error {
 public:
  using error::error;
};

// Thrown by dsm::allocator: the map has no room for the block. what() says how much it needs.
class out_of_memory : public std::bad_alloc {
 public:
  explicit out_of_memory(const char *reason) : reason_(std::make_shared<std::string>(reason)) {}
  const char *what() const noexcept override { return reason_->c_str(); }

 private:
  std::shared_ptr<const std::string> reason_;  // copying an exception must not throw
};

namespace detail {
// Words the error of a view of `count` elements of `size` bytes that is not inside the map.
inline std::string outside(std::size_t count, std::size_t size, std::size_t offset, std::size_t map) {
  std::string text = "a view of " + std::to_string(count) + " elements at byte " + std::to_string(offset) +
                     " is not inside the map of " + std::to_string(map) + " bytes; ";
  bool is_sane = offset <= DSM_SIZE_MAX && count <= (DSM_SIZE_MAX - offset) / size;
  return text + dsm_size_advice(is_sane ? offset + count * size : UINT64_MAX);
}

inline void check(int status) {
  if (status != DSM_OK) throw error(status, dsm_last_error());
}

// Rejects zero bytes: a C string would end there, and so be a different text.
inline std::string text(std::string text) {
  if (std::strlen(text.c_str()) != text.size())
    throw error(DSM_INVALID, "the text has a control character (U+0000); leave it out");
  return text;
}

// Returns false for the status `otherwise` (such as DSM_TIMEOUT), true for DSM_OK, and throws for any other.
inline bool done(int status, int otherwise) {
  if (status == otherwise) return false;
  check(status);
  return true;
}

// Converts to milliseconds, rounded up: 0 if the time is not positive, at most 100 years.
template <class Rep, class Period>
std::int64_t whole_ms(std::chrono::duration<Rep, Period> time) {
  constexpr double longest_ms = 100.0 * 365 * 86400 * 1000;
  double time_ms = std::chrono::duration<double, std::milli>(time).count();
  return time_ms > 0 ? static_cast<std::int64_t>(std::ceil(std::min(time_ms, longest_ms))) : 0;
}

// Waits for any length of time, by calls that take at most 2147483647 ms each.
template <class Call>
int timed(std::int64_t time_ms, Call call) {
  for (;;) {
    std::int64_t part_ms = std::min<std::int64_t>(time_ms, INT32_MAX);
    int status = call(static_cast<std::int32_t>(part_ms));
    time_ms -= part_ms;
    if (status != DSM_TIMEOUT || time_ms == 0) return status;
  }
}
}  // namespace detail

}  // namespace dsm

#endif
