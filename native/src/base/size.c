#include "base/size.h"

#include <dsm/dsm.h>

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

char *size_digits(char *end, uint64_t number) {
  char digits[20];
  unsigned count = 0;
  do {
    digits[count++] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) *end++ = digits[--count];
  *end = 0;
  return end;
}

static char *append(char *end, const char *text) {
  while (*text != 0) *end++ = *text++;
  *end = 0;
  return end;
}

const char *size_text(uint64_t bytes, char text[SIZE_TEXT_BYTES]) {
  static const struct {
    uint64_t bytes;
    const char *name;
  } units[] = {{GIB, " GiB"}, {MIB, " MiB"}, {KIB, " KiB"}};
  for (unsigned i = 0; i < sizeof units / sizeof units[0]; i++) {
    uint64_t unit = units[i].bytes;
    if (bytes < unit || bytes % (unit / 2) != 0) continue;
    char *end = size_digits(text, bytes / unit);
    append(append(end, bytes % unit != 0 ? ".5" : ""), units[i].name);
    return text;
  }
  append(size_digits(text, bytes), bytes == 1 ? " byte" : " bytes");
  return text;
}

/* Appends a size, rounded up, as --size takes it. */
static char *append_size(char *end, uint64_t bytes) {
  uint64_t unit = bytes % GIB == 0 ? GIB : bytes % MIB == 0 || bytes >= 16 * MIB ? MIB : KIB;
  return append(size_digits(end, (bytes + unit - 1) / unit), unit == KIB ? "KiB" : unit == MIB ? "MiB" : "GiB");
}

const char *size_advice(uint64_t bytes, uint64_t room, char text[SIZE_ADVICE_BYTES]) {
  char *end = text;
  if (bytes > DSM_SIZE_MAX) {
    append(end, "a map has at most 4 GiB");
    return text;
  }
  uint64_t tried = 4 * KIB;
  while (tried < DSM_SIZE_MAX && tried < bytes + room) tried *= 2;
  end = append(end, "give the map at least ");
  end = append_size(end, bytes);
  end = append(end, "; try --size ");
  end = append_size(end, tried);
  end = append(end, " (DSM_SIZE=");
  end = append_size(end, tried);
  append(end, ")");
  return text;
}
