/* where.h: where the weir of a file is to be asked that cannot be used. For the CLI; loads nothing
 * that could run (config.h does). */
#ifndef WEIR_CONFIG_WHERE_H
#define WEIR_CONFIG_WHERE_H

#include "weir/config/config.h"

enum conf_admin {
  CONF_ADMIN_KNOWN,
  CONF_ADMIN_OFF,     /* there is none */
  CONF_ADMIN_UNKNOWN, /* it cannot be read, or what is wrong with the file may hide it */
};

/* conf_admin_read appends what admin.listen of the file at path means (KNOWN: "unix:/path", else
 * nothing), whatever faults the file has elsewhere. Reads includes, no secrets; reports
 * nothing. */
MUST_USE enum conf_admin conf_admin_read(const struct conf_reader *reader, const char *path,
                                         struct text *out);

#endif
