/* warm.h: asking for lines of cache before they are needed. What a busy worker has in flight is
 * larger than a core's caches, so the first look at a request's memory is a wait for it, unless
 * somebody who knew asked before. A hint: any address may be given, nothing is read. */
#ifndef WEIR_BASE_WARM_H
#define WEIR_BASE_WARM_H

#include <stddef.h>
#include <stdint.h>

#define WARM_LINE 64u
/* Who is asked to do so in steps, from 0 to WARM_STEPS - 1, finds near at each what the one before
 * asked for, at step 0 the first line of what is its own. Changes nothing. */
#define WARM_STEPS 3u

/* warm asks for the lines of size bytes at `at`, which will be read and written. */
static inline void warm(const void *at, size_t size) {
  for (uintptr_t i = 0; i < size; i += WARM_LINE)
    __builtin_prefetch((const void *)((uintptr_t)at + i), 1); /* of NULL, too: no pointer */
}

#endif
