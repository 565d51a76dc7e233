/* loader_priv.h: the loader process and its client. The loader is forked before threads exist and
 * before privileges are dropped; it opens files and binds ports, and passes descriptors. One
 * SOCK_SEQPACKET pair, one request at a time, each bounded; anything malformed is refused.
 * THREATS.md row 31. */
#ifndef WEIR_CONTROL_LOADER_PRIV_H
#define WEIR_CONTROL_LOADER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "weir/base/buf.h"
#include "weir/config/config.h"

#define LOADER_MAGIC 0x57454952u /* "WEIR" */
#define LOADER_TEXT_MAX 4096u    /* path, pattern, bind text, sentence */
#define LOADER_FDS_MAX 128u      /* descriptors in one reply: one per worker */
#define LOADER_GLOB_MAX 4096u    /* matches of one pattern */
/* What whoever needed it is told when it has ended; nothing starts it again: it would have neither
 * the rights that weir gave up nor, forked now, a memory without keys. */
#define LOADER_ENDED                                                                        \
  "the loader process has ended, so weir reads no file, binds no port and opens no log any " \
  "more; what runs goes on; restart weir"

/* loader_op is what may be asked; the text is a path unless said otherwise. */
enum loader_op {
  LOADER_READ,   /* regular file, opened for reading: one descriptor */
  LOADER_APPEND, /* log file, opened (made 0640) for appending: one descriptor */
  LOADER_GLOB,   /* pattern: one reply per match (more = 1), then an empty one */
  LOADER_STAT,   /* stat */
  LOADER_BIND,   /* bind text, flags, count: that many listening descriptors */
  LOADER_UNLINK, /* removes a socket file if it is still the one of (a: dev, b: ino) */
  LOADER_OP_COUNT
};

enum loader_flag {
  LOADER_REUSEPORT = 1, /* count descriptors that share the port; else one */
  LOADER_PROBE = 2,     /* refuse when anybody else listens there */
  LOADER_DEFER = 4,     /* TCP_DEFER_ACCEPT */
  LOADER_PRIVATE = 8,   /* unix socket 0600 for user a, group b; else 0666 */
  LOADER_DATAGRAM = 16, /* UDP */
  LOADER_FLAGS = 31,
};

struct loader_request {
  uint32_t magic, op, flags, count;
  uint64_t a, b;
  uint32_t len, unused;
  char text[LOADER_TEXT_MAX]; /* len bytes, no NUL among them */
};
#define LOADER_REQUEST_HEAD offsetof(struct loader_request, text)

/* loader_stat names a file's state: differing values mean another file or other bytes. */
struct loader_stat {
  uint64_t dev, ino, size, mode; /* mode: permission bits */
  int64_t mtime_ns, ctime_ns;
};

struct loader_reply {
  uint32_t magic;
  int32_t status; /* 0 or -errno */
  uint32_t more, fd_count;
  struct loader_stat stat; /* LOADER_STAT; LOADER_BIND of a unix socket: dev and ino */
  uint32_t len, unused;
  char text[LOADER_TEXT_MAX]; /* LOADER_GLOB: a path; on failure: a sentence */
};
#define LOADER_REPLY_HEAD offsetof(struct loader_reply, text)

/* ---- the process ---- */

/* loader_serve answers requests on sock until it is closed. Never logs. */
void loader_serve(int sock);
/* loader_check_request: is what was received a request that may be acted on? */
bool loader_check_request(const struct loader_request *request, size_t received);
/* listen_options (loader_bind.c) sets what accepted sockets inherit from a listening one. */
void listen_options(int fd);
/* loader_bind (loader_bind.c) makes the descriptors of a LOADER_BIND; 0 or -errno and a
 * sentence. */
int loader_bind(const struct loader_request *request, int *fds, struct loader_stat *stat,
                struct buf *why);

/* ---- the client ---- */

struct loader {
  pthread_mutex_t lock; /* one request at a time: start, compile thread, log thread */
  int sock;             /* -1: closed */
  pid_t pid;            /* 0: waited for */
  atomic_bool ended;    /* it answers no more; whoever notices first sets it */
};

/* loader_start forks the process. 0 or -errno. */
MUST_USE int loader_start(struct loader *l);
void loader_stop(struct loader *l);
/* loader_ended tells whether requests fail because there is no loader any more. */
bool loader_ended(const struct loader *l);
/* loader_reap waits for a loader that closed its socket, without blocking; false: not yet. *status
 * is waitpid's, or LOADER_HOW_UNKNOWN where another one has it (SIGCHLD may be ignored). */
#define LOADER_HOW_UNKNOWN (-1)
MUST_USE bool loader_reap(struct loader *l, int *status);
/* loader_open gives a descriptor (LOADER_READ, LOADER_APPEND) or -errno. */
MUST_USE int loader_open(struct loader *l, enum loader_op op, const char *path);
MUST_USE int loader_read(struct loader *l, const char *path, struct text *out);
MUST_USE int loader_glob(struct loader *l, const char *pattern,
                         void (*each)(const char *path, void *arg), void *arg);
MUST_USE int loader_stat(struct loader *l, const char *path, struct loader_stat *out);
void loader_unlink(struct loader *l, const char *path, const struct loader_stat *stat);

/* loader_bind_conf asks for `count` descriptors of one address. */
struct loader_bind_conf {
  struct span text; /* "host:port" or "unix:/path" */
  uint32_t flags;   /* enum loader_flag */
  uint32_t count;
  uid_t uid; /* LOADER_PRIVATE: owner of the socket file */
  gid_t gid;
};
/* loader_listen fills fds[0..*fd_count) (count with LOADER_REUSEPORT and TCP, else 1). 0 or -errno
 * and a sentence in why. */
MUST_USE int loader_listen(struct loader *l, const struct loader_bind_conf *conf, int *fds,
                           uint32_t *fd_count, struct loader_stat *stat, struct buf *why);

/* loader_reader reads configuration files through l; env is getenv. */
struct conf_reader loader_reader(struct loader *l);

#endif
