/* admin.h: the client side of the admin socket and the health probe, for the command line.
 * Blocking, one request each. Called by main/. */
#ifndef WEIR_CONTROL_ADMIN_H
#define WEIR_CONTROL_ADMIN_H

#include "weir/base/buf.h"

/* admin_call sends a line ("reload json") to the admin socket at address ("unix:/path") and
 * appends the answer to out. The exit code that goes with it; WEIR_FAILED with a sentence in out
 * when nobody answers. Waits as long as the answer takes. */
int admin_call(const char *address, const char *line, struct text *out);

/* health_probe asks address ("127.0.0.1:9180", "unix:/path") for GET /-/ready; true when it
 * answers 200 within timeout_ms. A sentence in out. */
bool health_probe(const char *address, uint32_t timeout_ms, struct text *out);

#endif
