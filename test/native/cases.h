/* What main() of a program with cases does. */
#ifndef CASES_H
#define CASES_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct test_case {
  const char *name;
  void (*run)(void);
};

/* Without an argument prints the names of the cases, one a line; with the name of one runs it, after `before` (NULL: at
 * once), and prints "ok". Returns what main() is to return: 0, or 2 if there is no case of that name. */
static inline int run_cases(int argc, char **argv, const struct test_case *cases, size_t count, void (*before)(void)) {
  for (size_t i = 0; i < count; i++) {
    if (argc < 2) {
      puts(cases[i].name);
    } else if (strcmp(argv[1], cases[i].name) == 0) {
      if (before != NULL) before();
      cases[i].run();
      puts("ok");
      return 0;
    }
  }
  return argc < 2 ? 0 : 2;
}

#endif
