/* The cases of objects.c with the types of pthreads in the map, whose calls libdsm interposes. */
#define PTHREADS
#include "objects.c"
