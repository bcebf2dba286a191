#include "session/names.h"

#include <string.h>

#include "base/status.h"
#include "session/session.h"

/* Returns the code point at `*text` and moves `*text` past it, or -1 if it is not valid UTF-8. */
static int32_t next_code_point(const unsigned char **text) {
  static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned char *at = *text;
  int size = at[0] < 0x80 ? 1 : at[0] < 0xc0 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf8 ? 4 : 0;
  if (size == 0) return -1;
  int32_t code = size == 1 ? at[0] : at[0] & (0x7f >> size);
  for (int i = 1; i < size; i++) {
    if ((at[i] & 0xc0) != 0x80) return -1;
    code = code << 6 | (at[i] & 0x3f);
  }
  if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return -1;
  *text = at + size;
  return code;
}

/* Returns whether the character changes how a terminal shows the text around it: control characters, line and paragraph
 * separators, and bidirectional marks. src/core/base/names.ts has the same list. */
static int is_control(int32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

int name_check(const char *what, const char *name) {
  if (name == NULL || name[0] == 0)
    return dsm_fail(DSM_INVALID, "the %s name is empty; give it 1 to %d bytes", what, DSM_NAME_MAX);
  if (strlen(name) > DSM_NAME_MAX)
    return dsm_fail(DSM_INVALID, "the %s name has %zu bytes; the limit is %d", what, strlen(name), DSM_NAME_MAX);
  for (const unsigned char *at = (const unsigned char *)name; *at != 0;) {
    int32_t code = next_code_point(&at);
    if (code == '/') return dsm_fail(DSM_INVALID, "the %s name has a slash; leave it out", what);
    /* U+FFFD shows that another program has already replaced invalid UTF-8. */
    if (code < 0 || code == 0xfffd) return dsm_fail(DSM_INVALID, "the %s name is not valid UTF-8", what);
    if (is_control(code))
      return dsm_fail(DSM_INVALID, "the %s name has a control character (U+%04X); leave it out", what, (unsigned)code);
  }
  if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    return dsm_fail(DSM_INVALID, "the %s name is \"%s\"; choose another", what, name);
  return DSM_OK;
}

static const char *const order_names[] = {
    [ORDER_ANY] = "", [ORDER_SEQUENTIAL] = "sequential", [ORDER_RELEASE] = "release", [ORDER_PIPELINED] = "pipelined"};
#define ORDERS ((int)(sizeof order_names / sizeof order_names[0]))

int order_number(const char *name) {
  if (name == NULL) return ORDER_ANY;
  for (int i = 1; i < ORDERS; i++)
    if (strcmp(order_names[i], name) == 0) return i;
  return -1;
}

int order_is_known(uint32_t order) {
  return order > ORDER_ANY && order < ORDERS;
}

const char *order_name(int order) {
  return order_names[order > 0 && order < ORDERS ? order : ORDER_SEQUENTIAL];
}

static const char *const on_loss_names[] = {
    [ON_LOSS_ANY] = "", [ON_LOSS_FAIL] = "fail", [ON_LOSS_CONTINUE] = "continue"};
#define ON_LOSSES ((int)(sizeof on_loss_names / sizeof on_loss_names[0]))

int on_loss_number(const char *name) {
  if (name == NULL) return ON_LOSS_ANY;
  for (int i = 1; i < ON_LOSSES; i++)
    if (strcmp(on_loss_names[i], name) == 0) return i;
  return -1;
}

const char *on_loss_name(int on_loss) {
  return on_loss_names[on_loss > 0 && on_loss < ON_LOSSES ? on_loss : ON_LOSS_FAIL];
}
