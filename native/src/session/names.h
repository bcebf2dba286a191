/* Names: the rules for names given by programs, and the wire numbers of words such as "release". */
#ifndef DSM_NAMES_H
#define DSM_NAMES_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Checks a name; `what` is the kind of name for the message. Returns DSM_OK, or DSM_INVALID and keeps the reason. */
int name_check(const char *what, const char *name);

/* Return the number of a word (enum session_order, enum session_on_loss; NULL: any), or -1. */
int order_number(const char *name);
int on_loss_number(const char *name);

/* Whether the number stands for a word. */
int order_is_known(uint32_t order);

/* Return the word for a number of the session. */
const char *order_name(int order);
const char *on_loss_name(int on_loss);

#pragma GCC visibility pop

#endif
