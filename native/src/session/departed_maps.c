#define _GNU_SOURCE
#include "session/departed_maps.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "trap/region.h"

/* The most departed maps with a region. Together with those of the open sessions they fill the region table. */
#define DEPARTED_REGIONS_MAX 32

static struct departed_map {
  uintptr_t base;
  uint64_t size;
  int region; /* -1: it has been removed */
  struct departed_map *next;
} *departed_maps;

int replace_with_copy(const struct arbiter_link *link) {
  uint8_t *copy = mmap(NULL, link->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED) return -1;
  static const uint8_t zeros[PAGE_BYTES];
  const uint8_t *bytes = (const uint8_t *)link->base;
  for (uint64_t at = 0; at < link->size; at += PAGE_BYTES)
    if (memcmp(bytes + at, zeros, PAGE_BYTES) != 0) memcpy(copy + at, bytes + at, PAGE_BYTES);
  mprotect(copy, link->size, PROT_READ);
  if (mremap(copy, link->size, link->size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)link->base) == MAP_FAILED) {
    munmap(copy, link->size);
    return -1;
  }
  return 0;
}

/* Takes the region of a map away. A map whose stores may go on is opened for them. */
static void drop_region(struct departed_map *map) {
  if (map->region < 0) return;
  if (dsm_region_is_forgiving(map->region)) mprotect((void *)map->base, map->size, PROT_READ | PROT_WRITE);
  dsm_region_remove(map->region);
  map->region = -1;
}

void departed_map_add(const struct arbiter_link *link, int region) {
  struct departed_map *map = malloc(sizeof *map);
  if (map == NULL) return;
  *map = (struct departed_map){.base = link->base, .size = link->size, .region = region, .next = departed_maps};
  departed_maps = map;
  int count = 0;
  for (; map != NULL; map = map->next) {
    if (map->region < 0 || ++count <= DEPARTED_REGIONS_MAX) continue;
    drop_region(map);
  }
}

/* Keeps what is left of a map when [base, end) of it is taken away, as one map or two. Returns whether any is left. */
static int keep_rest(struct departed_map *map, uintptr_t base, uintptr_t end) {
  uintptr_t map_end = map->base + map->size;
  int before = map->base < base, after = end < map_end;
  if (before && after) {
    struct departed_map *second = malloc(sizeof *second);
    if (second == NULL) {
      munmap((void *)end, map_end - end);
    } else {
      *second = (struct departed_map){.base = end, .size = map_end - end, .region = -1, .next = map->next};
      map->next = second;
    }
  }
  if (before)
    map->size = base - map->base;
  else if (after)
    *map = (struct departed_map){.base = end, .size = map_end - end, .region = -1, .next = map->next};
  return before || after;
}

void departed_maps_clear(uintptr_t base, uint64_t size) {
  uintptr_t end = base + size;
  for (struct departed_map **at = &departed_maps; *at != NULL;) {
    struct departed_map *map = *at;
    if (map->base >= end || base >= map->base + map->size) {
      at = &map->next;
      continue;
    }
    drop_region(map);
    uintptr_t from = map->base > base ? map->base : base;
    uintptr_t to = map->base + map->size < end ? map->base + map->size : end;
    munmap((void *)from, to - from);
    if (keep_rest(map, from, to)) {
      at = &map->next;
      continue;
    }
    *at = map->next;
    free(map);
  }
}
