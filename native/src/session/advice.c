#include "session/advice.h"

void advice_begin(struct advice *advice, int silent, long long now_ns) {
  atomic_store_explicit(&advice->silent, silent != 0, memory_order_relaxed);
  atomic_store_explicit(&advice->hits, 0, memory_order_relaxed);
  atomic_store_explicit(&advice->since_ns, now_ns, memory_order_relaxed);
  for (unsigned i = 0; i < ADVICE_PAGES; i++) atomic_store_explicit(&advice->pages[i], 0, memory_order_relaxed);
}

int advice_due(struct advice *advice, long long now_ns, struct advice_figures *figures) {
  /* If several threads get here at once, one of them takes the window. */
  uint32_t stores = atomic_exchange(&advice->hits, 0);
  if (stores < ADVICE_STORES) return 0;
  long long since = atomic_exchange(&advice->since_ns, now_ns);
  figures->stores = stores;
  figures->ns = now_ns > since ? now_ns - since : 1;
  figures->pages = 0;
  for (unsigned i = 0; i < ADVICE_PAGES; i++)
    figures->pages += atomic_exchange_explicit(&advice->pages[i], 0, memory_order_relaxed) != 0;
  return figures->ns <= ADVICE_WINDOW_NS && atomic_exchange(&advice->silent, 1) == 0;
}

struct line {
  char *text;
  size_t length, room;
};

static void say(struct line *line, const char *text) {
  while (*text != '\0' && line->length < line->room) line->text[line->length++] = *text++;
}

static void say_number(struct line *line, unsigned long long number) {
  char digits[21];
  unsigned at = sizeof digits - 1;
  digits[at] = '\0';
  do digits[--at] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  say(line, digits + at);
}

size_t advice_text(char *text, size_t room, uint32_t rank, const struct advice_figures *figures) {
  struct line line = {.text = text, .length = 0, .room = room > 0 ? room - 1 : 0};
  unsigned long long ns = (unsigned long long)figures->ns;
  say(&line, "dsm: rank ");
  say_number(&line, rank);
  say(&line, " makes ");
  say_number(&line, figures->stores * 1000000000ull / ns);
  say(&line, " single stores a second to ");
  say_number(&line, figures->pages);
  say(&line, figures->pages == 1 ? " page (" : " pages (");
  say_number(&line, figures->stores);
  say(&line, " in ");
  say_number(&line, ns / 1000000);
  say(&line, " ms), each of them a trap; if others need not see each at once, a hole around them (dsm_hole_dig, "
             "session.hole()) or --order release publishes them together and is faster (DSM_QUIET=1: say nothing)");
  if (room > 0) line.text[line.length++] = '\n';
  return line.length;
}
