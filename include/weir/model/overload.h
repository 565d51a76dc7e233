/* overload.h: when a worker refuses work before it breaks: settings of the process. The state is
 * each worker's own (proxy/overload.c). */
#ifndef WEIR_MODEL_OVERLOAD_H
#define WEIR_MODEL_OVERLOAD_H

#include <stdint.h>

/* overload_cause: in the order in which they are asked. */
enum overload_cause {
  OVERLOAD_MEMORY,
  OVERLOAD_CONNECTIONS,
  OVERLOAD_LAG,
  OVERLOAD_CAUSES
};

/* overload_settings: thresholds, 0: none. */
struct overload_settings {
  uint32_t memory_percent;      /* of a worker's I/O buffers */
  uint32_t connections_percent; /* of a worker's share of max_connections */
  uint32_t lag_ms;              /* by how much a worker's loop is late */
  uint32_t retry_after_ms;
};

#endif
