/* Cells: words in the file behind the map by which the processes of a node synchronise without the arbiter: in direct
 * mode, and while the session has leased a lock to the node. Requests make the arbiter take a cell; src/core/replica/cells
 * has the invariants. The answer to a request says which cell the lock or semaphore has that it named. */
#ifndef DSM_CELLS_H
#define DSM_CELLS_H

#include <stdatomic.h>
#include <stdint.h>

#include <dsm/dsm.h>
#include "base/polling.h"
#include "link/arbiter_link.h"
#include "trap/region_entry.h"

/* A thread sleeps on a cell for so long at most, and asks the arbiter then: `dsm why` and `dsm top` show longer waits. */
#define CELL_SLEEP_MAX_NS 100000000ll

/* What has a cell for each name. */
enum cell_kind { CELL_OF_LOCK, CELL_OF_SEMAPHORE, CELL_KINDS };

/* What a process remembers of a lock or semaphore. */
struct known_cell {
  _Atomic uint32_t cell; /* 1 plus its number, and above CELL_KIND_SHIFT the kind; 0: not known */
  _Atomic long long note;
};

#define CELL_KIND_SHIFT 16

/* A lock or a semaphore: one that has a name, or an object in the map (session/objects.h). */
struct cell_name {
  enum cell_kind kind;
  const char *name; /* NULL: an object in the map */
  uint64_t offset; /* of the object */
  struct known_cell *known; /* of the object */
};

struct cells {
  const struct arbiter_link *link;
  uint8_t *bytes; /* NULL: none, each operation is a request */
  uint64_t owner; /* dsm_process_token() of the process that joined */
  atomic_uint looked; /* counts calls of cells_arbiter_is_gone(), about and modulo 2^32 */
  struct known_name *known; /* KNOWN_NAMES_MAX of each kind */
  struct polling lock_spins;
  struct polling turn_spins;
  struct polling semaphore_spins;
};

#pragma GCC visibility push(hidden)

/* Maps the cells; `offset`: where they begin in the file of the map, whose descriptor `fd` allows writing and may be
 * closed afterwards. Returns 0, or -1 with errno. */
int cells_open(struct cells *cells, const struct arbiter_link *link, int fd, uint64_t offset);

/* The process leaves the session, and the arbiter is not told yet: each operation is a request from now on. Threads may
 * still be using the cells. */
void cells_retire(struct cells *cells);

/* Unmaps the cells. No thread uses them any more. */
void cells_close(struct cells *cells);

/* Returns whether a lock that was free in its cell belongs to this node still: outside direct mode the server may have
 * given the node up since. Call it behind the compare-and-swap that takes the lock. */
int cells_are_open(const struct cells *cells);

/* Returns whether the arbiter has ended. Looks only once in a while: a process that sends no request would not notice
 * otherwise. */
int cells_arbiter_is_gone(struct cells *cells);

/* Writes the name by which requests know it, and returns its length. */
uint32_t cell_name_text(const struct cell_name *name, char text[DSM_NAME_MAX + 1]);

/* Returns the word of the cell, or NULL if this process does not know of one. */
_Atomic uint32_t *cells_find(const struct cells *cells, const struct cell_name *name);

/* Returns a number that the process keeps with the cell, 0 at first; or NULL where cells_find() does. */
_Atomic long long *cells_note(const struct cells *cells, const struct cell_name *name);

/* Records what the answer to a request said: 1 plus the number of the cell, or 0. */
void cells_learn(struct cells *cells, const struct cell_name *name, uint64_t answer);

#pragma GCC visibility pop

/* Returns whether this process may use the cells: it joined the session, has not left it, and can order things in it. */
static inline int cells_are_usable(const struct cells *cells) {
  return cells->bytes != NULL && cells->owner == dsm_process_token() && !atomic_load(&cells->link->left) &&
         !atomic_load(&cells->link->dead);
}

#endif
