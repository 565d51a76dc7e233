/* endpoint.h: what is counted and known of an endpoint: its load, how its attempts ended, whether
 * it is in service. */
#ifndef WEIR_UPSTREAM_ENDPOINT_H
#define WEIR_UPSTREAM_ENDPOINT_H

#include "weir/base/end.h"
#include "weir/model/model.h"

struct upstream;

/* endpoint_load is requests in flight over all workers (relaxed). */
uint32_t endpoint_load(const struct endpoint *e);
/* endpoint_begin and endpoint_end count one request in flight. */
void endpoint_begin(struct endpoint *e, uint32_t worker);
void endpoint_end(struct endpoint *e, uint32_t worker);
/* endpoint_outcome reports how an attempt ended: end of the attempt (END_OK: a response came), and
 * its status (0: none). True when this ejected the endpoint. */
bool endpoint_outcome(struct upstream *u, const struct pool *pool, struct endpoint *e,
                      enum end end, uint16_t status, uint64_t now_ms);
/* endpoint_in_service is false while ejected, while active health says down, and while a new
 * endpoint has not passed its first check. */
bool endpoint_in_service(const struct endpoint *e, uint64_t now_ms);
/* endpoint_since is when it last came into service, new or after an ejection; 0: from the start.
 */
uint64_t endpoint_since(const struct endpoint *e);
/* endpoint_eject takes e out of service, unless it is out or too many of the pool are. Any
 * thread. */
bool endpoint_eject(const struct pool *pool, struct endpoint *e, enum eject_cause cause,
                    uint64_t now_ms);

#endif
