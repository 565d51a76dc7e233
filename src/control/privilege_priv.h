/* privilege_priv.h: the user to become, and becoming it. */
#ifndef WEIR_CONTROL_PRIVILEGE_PRIV_H
#define WEIR_CONTROL_PRIVILEGE_PRIV_H

#include <stdbool.h>
#include <sys/types.h>

#include "weir/base/buf.h"

struct privilege {
  const char *user; /* NULL: nothing changes */
  uid_t uid;
  gid_t gid;
};

/* privilege_any tells whether we may now do more than our user: root, or any capability. */
bool privilege_any(void);
/* privilege_find looks the user up; NULL is whoever runs this. 0 or -errno and a sentence. */
MUST_USE int privilege_find(const char *user, struct privilege *out, struct buf *why);
/* privilege_known: there is such a user, or nobody can tell. */
bool privilege_known(const char *user);
/* privilege_drop becomes it for good, before any thread exists. 0 or -errno and a sentence. */
MUST_USE int privilege_drop(const struct privilege *p, struct buf *why);

/* notify_open makes the socket for it, once, before descriptors can run short. */
void notify_open(void);
/* notify_manager tells the service manager ("READY=1"); nothing happens without NOTIFY_SOCKET. Any
 * thread. */
void notify_manager(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
