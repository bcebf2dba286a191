/* Names: the rules for names that programs give, and the numbers that stand for words on the wire. */
#ifndef DSM_NAMES_H
#define DSM_NAMES_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Checks a name; `what` says in the message what it names. DSM_OK, or DSM_INVALID with the reason. */
int name_check(const char *what, const char *name);

/* Return the number of a word (enum session_order, enum session_on_loss; NULL: any), or -1. */
int order_number(const char *name);
int on_loss_number(const char *name);

/* Whether the number stands for a word. */
int order_is_known(uint32_t order);

/* Return the word of a number that the session has. */
const char *order_name(int order);
const char *on_loss_name(int on_loss);

#pragma GCC visibility pop

#endif
