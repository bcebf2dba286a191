// Counts words: each process takes its share of the arguments, and all count in one map of strings.
//
//   dsm run -n 4 --nodes 2 -- ./words to be or not to be
#include <dsm/containers.hpp>
#include <dsm/dsm.hpp>

#include <cstdio>
#include <exception>
#include <mutex>

int main(int count, char **arguments) {
  try {
    dsm::session session;
    auto &words = session.object<dsm::map<dsm::string, int>>("words");
    auto mutex = session.mutex("words");
    for (int i = 1 + session.rank(); i < count; i += session.processes()) {
      std::scoped_lock lock(mutex);
      auto at = words.find(arguments[i]);
      if (at == words.end()) at = words.emplace(arguments[i], 0).first;
      at->second += 1;
    }
    session.barrier();
    if (session.rank() == 0)
      for (auto &[word, times] : words) std::printf("%s %d\n", word.c_str(), times);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "words: %s\n", error.what());
    return 1;
  }
}
