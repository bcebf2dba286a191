#include "pages/word_masks.h"

#define LACKS(mask) (0xff & ~(mask))
#define BELOW(mask) __builtin_ctz(LACKS(mask) | 0x100)
#define GAP(mask) (LACKS(mask) >> BELOW(mask))
#define IS_SIMPLE(mask) ((GAP(mask) & (GAP(mask) + 1)) == 0 && (mask) != 0)
#define FORM(mask)                                                                                                     \
  {8 * (BELOW(mask) & 7), 8 * (IS_SIMPLE(mask) ? __builtin_popcount(LACKS(mask)) : 0), __builtin_popcount(mask),       \
   !IS_SIMPLE(mask) && (mask) != 0}
#define FORMS_4(mask) FORM(mask), FORM((mask) + 1), FORM((mask) + 2), FORM((mask) + 3)
#define FORMS_16(mask) FORMS_4(mask), FORMS_4((mask) + 4), FORMS_4((mask) + 8), FORMS_4((mask) + 12)
#define FORMS_64(mask) FORMS_16(mask), FORMS_16((mask) + 16), FORMS_16((mask) + 32), FORMS_16((mask) + 48)
const struct form word_mask_forms[256] = {FORMS_64(0), FORMS_64(64), FORMS_64(128), FORMS_64(192)};
