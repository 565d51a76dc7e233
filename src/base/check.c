/* check.c: what happens when one of our own facts is false. Prints and aborts; never returns,
 * never allocates. Called only through check() and dcheck(). */
#include "weir/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *file, int line, const char *text) {
  dprintf(STDERR_FILENO, "%s:%d: check failed: %s\n", file, line, text);
  abort();
}
