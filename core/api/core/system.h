// Facts of the machine that runs us.
#ifndef GG_CORE_SYSTEM_H
#define GG_CORE_SYSTEM_H

#include <stddef.h>

size_t gg_processors(void); // processors this process may use, 1 to GG_MAX_THREADS
double gg_now(void);        // monotonic clock, seconds

#endif
