// dsm for C++20: errors, and waits with a time. Part of dsm/dsm.hpp.
#ifndef DSM_ERROR_HPP
#define DSM_ERROR_HPP

#include <dsm/dsm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace dsm {

// A call's failure: code() is an `enum dsm_status`, what() the reason.
class error : public std::runtime_error {
 public:
  error(int code, const char *reason)
      : std::runtime_error(std::string(dsm_status_name(code)) + ": " + reason), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

// Thrown by a mutex that passed on because its last owner died, or left, while it had it: see `mutex`.
class owner_died : public error {
 public:
  using error::error;
};

namespace detail {
inline void check(int status) {
  if (status != DSM_OK) throw error(status, dsm_last_error());
}

// A C string would end at a zero byte, and so be another text.
inline std::string text(std::string text) {
  if (std::strlen(text.c_str()) != text.size())
    throw error(DSM_INVALID, "the text has a control character (U+0000); leave it out");
  return text;
}

// False for `otherwise`, the status of what did not come about.
inline bool done(int status, int otherwise) {
  if (status == otherwise) return false;
  check(status);
  return true;
}

// In milliseconds, rounded up: 0 for what is over, 100 years for what is longer.
template <class Rep, class Period>
std::int64_t whole_ms(std::chrono::duration<Rep, Period> time) {
  constexpr double longest_ms = 100.0 * 365 * 86400 * 1000;
  double time_ms = std::chrono::duration<double, std::milli>(time).count();
  return time_ms > 0 ? static_cast<std::int64_t>(std::ceil(std::min(time_ms, longest_ms))) : 0;
}

// A wait of any length, by calls that take 2147483647 ms at most.
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
