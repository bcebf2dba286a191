/* Stores of many bytes to memory that may lie in the map, as one operation in place of a trap for each store. */
#ifndef DSM_STORE_TO_MAP_H
#define DSM_STORE_TO_MAP_H

#include <stddef.h>

#pragma GCC visibility push(hidden)

/* Does what memmove() does. At least one byte of `to` is in the map. handler-safe. */
void move_to_map(void *to, const void *from, size_t size);

/* Does what memset() does. At least one byte of `to` is in the map. handler-safe. */
void fill_map(void *to, int byte, size_t size);

/* The real functions, or plain ones of ours until they are found: other libraries may call before ours is prepared. */
struct real_stores {
  void *(*move)(void *to, const void *from, size_t size);
  void *(*copy)(void *to, const void *from, size_t size);
  void *(*fill)(void *to, int byte, size_t size);
};
extern struct real_stores real_stores;

#pragma GCC visibility pop

#endif
