/* The size of a session's map, as advice in messages. handler-safe. */
#ifndef DSM_SIZE_H
#define DSM_SIZE_H

#include <stdint.h>

#define SIZE_ADVICE_BYTES 96

#pragma GCC visibility push(hidden)

/* Writes what to do where a map must have `bytes` or more, and returns `text`: "give the map at least 79KiB; try --size
 * 128KiB (DSM_SIZE=128KiB)". The second size, a power of two, leaves `room` bytes or more beside what is needed: other
 * blocks, and what the program asks for next, are not known here. */
const char *size_advice(uint64_t bytes, uint64_t room, char text[SIZE_ADVICE_BYTES]);

/* The room where only the extent of one access is known. */
#define SIZE_ROOM(bytes) ((bytes) / 8)

#define SIZE_TEXT_BYTES 32

/* Writes a size that a message quotes, such as "8 GiB", "1.5 MiB" or "65537 bytes", in a unit only if that needs no
 * rounding, and returns `text`. exactSize() of src/core/base/size.ts writes the same. */
const char *size_text(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

/* Appends `number` in decimal at `end`, with a zero byte behind it; returns the new end. At most 20 digits. */
char *size_digits(char *end, uint64_t number);

#pragma GCC visibility pop

#endif
