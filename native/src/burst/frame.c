/* The thread's own stack. Other threads may have the address of a variable on it, and wait for it to change; so a store there
 * ends a burst, unless the process has no other thread. Only the stack of the program's beginning counts: its
 * neighbourhood is known, while another one may lie beside memory that processes share. */
#include <stddef.h>
#include <sys/auxv.h>

#include "base/next.h"
#include "burst/slot.h"

/* Stores this far above the stack pointer are to the thread's own frames, if the stack reaches so far. */
#define FRAME_MAX 32768u
/* The kernel leaves at least so much room below this stack. */
#define STACK_MAX (128u << 20)

static const char *is_single_threaded; /* of glibc; NULL before 2.32 */
static uint64_t top; /* the kernel has put these bytes above all frames */

void burst_frame_init(void) {
  dsm_find_next(&is_single_threaded, "__libc_single_threaded");
  top = getauxval(AT_RANDOM);
}

uint64_t burst_frame_bytes(uint64_t stack_pointer) {
  if (is_single_threaded == NULL || !*(const volatile char *)is_single_threaded || stack_pointer >= top ||
      top - stack_pointer > STACK_MAX)
    return 0;
  uint64_t bytes = top - stack_pointer;
  return bytes < FRAME_MAX ? bytes : FRAME_MAX;
}
