#include "link/interrupts.h"

#include <stddef.h>

static __thread struct dsm_interrupts *current;

struct dsm_interrupts *interrupts_replace(struct dsm_interrupts *interrupts) {
  struct dsm_interrupts *before = current;
  current = interrupts;
  return before;
}

int interrupts_are_on(void) {
  return current != NULL;
}

int interrupts_slice(int timeout_ms) {
  if (current == NULL) return timeout_ms;
  return timeout_ms < 0 || timeout_ms > INTERRUPTS_POLL_MS ? INTERRUPTS_POLL_MS : timeout_ms;
}

int interrupts_raised(void) {
  return current != NULL && current->check() != 0;
}

void interrupts_note(int status) {
  if (current != NULL) current->status = status;
}
