// A process of a session that does with the lock "m" what it is told, a word a line; it answers each with a line.
#include <dsm/dsm.hpp>

#include <csignal>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>

namespace {

struct place {
  int value, repaired;
};

std::string perform(dsm::session &session, place &guarded, std::istringstream words) {
  std::string verb, which;
  long time_ms = 0;
  words >> verb >> which >> time_ms;
  static auto plain = session.mutex("m");
  static auto repairs = session.mutex("m", [&] { guarded.repaired += 1; });
  static auto fails = session.mutex("m", [] { throw std::runtime_error("cannot be repaired"); });
  dsm::mutex &mutex = which == "repairs" ? repairs : which == "fails" ? fails : plain;
  const std::string repaired = ", repaired ";
  if (verb == "with") {
    std::scoped_lock lock(mutex);
    guarded.value += 1;
    return "value " + std::to_string(guarded.value) + repaired + std::to_string(guarded.repaired);
  }
  if (verb == "throw") {
    std::scoped_lock lock(mutex);
    throw std::runtime_error("left by an exception");
  }
  if (verb == "lock") return mutex.lock(), "locked" + repaired + std::to_string(guarded.repaired);
  if (verb == "try") return mutex.try_lock() ? "locked" : "not locked";
  if (verb == "timed") {
    bool locked = mutex.try_lock_for(std::chrono::milliseconds(time_ms));
    return locked ? "locked" : "DSM_TIMEOUT";
  }
  if (verb == "unlock") return mutex.unlock(), "unlocked";
  if (verb == "unmended") return mutex.unlock_unmended(), "unlocked";
  if (verb == "die") raise(SIGKILL);
  if (verb == "leave") return session.leave(), "left";
  return "what?";
}

}  // namespace

int main() {
  dsm::session session;
  auto &guarded = session.named<place>("guarded");
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer;
    try {
      answer = perform(session, guarded, std::istringstream(line));
    } catch (const dsm::owner_died &death) {
      answer = std::string("OwnerDied ") + dsm_status_name(death.code()) + " " + death.what();
    } catch (const dsm::error &error) {
      answer = std::string(dsm_status_name(error.code())) + " " + error.what();
    } catch (const std::runtime_error &error) {
      answer = std::string("error: ") + error.what();
    }
    std::cout << answer << std::endl;
  }
}
