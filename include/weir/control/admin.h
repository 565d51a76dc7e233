/* admin.h: the client side of the admin socket and the health probe, for the command line.
 * Blocking, one request each. Called by main/. */
#ifndef WEIR_CONTROL_ADMIN_H
#define WEIR_CONTROL_ADMIN_H

#include "weir/base/buf.h"

/* admin_call sends a line ("reload json") to the admin socket at address ("unix:/path") and
 * appends the answer to out; *code is the exit code that goes with it. False with a sentence in
 * out (no line break) when nobody answers within timeout_ms. */
MUST_USE bool admin_call(const char *address, const char *line, uint32_t timeout_ms,
                         struct text *out, int *code);

/* admin_file appends path as the answer to "file" has it: from the root, links not followed. False
 * when it is relative and where we are cannot be told, or has a line break. */
MUST_USE bool admin_file(const char *path, struct text *out);

/* health_probe asks address ("127.0.0.1:9180", "unix:/path") for GET /-/ready; true when it
 * answers 200 within timeout_ms. Otherwise a sentence in out (no line break). */
MUST_USE bool health_probe(const char *address, uint32_t timeout_ms, struct text *out);

#endif
