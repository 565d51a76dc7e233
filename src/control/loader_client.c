/* loader_client.c: starts the loader process and speaks to it. Every call waits for its answer, so
 * only threads that may wait call here: the main thread before the workers run, the compile
 * thread, the log thread. Does not: run in the loader process, but for the few lines after
 * fork. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/loader_priv.h"
#include "weir/base/mem.h"

/* What opening, binding and handing over the admin socket may need; the rest goes. Reading is by
 * itself too: a service manager may grant that alone. */
static const uint32_t kept_capabilities[] = {CAP_NET_BIND_SERVICE, CAP_DAC_OVERRIDE,
                                             CAP_DAC_READ_SEARCH, CAP_CHOWN};

static void keep_capabilities(void) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{0}};
  if (syscall(SYS_capget, &head, data) < 0) {
    return;
  }
  uint32_t keep[2] = {0, 0};
  for (size_t i = 0; i < array_count(kept_capabilities); i++) {
    keep[kept_capabilities[i] / 32] |= 1u << (kept_capabilities[i] % 32);
  }
  for (int i = 0; i < 2; i++) {
    data[i].permitted &= keep[i];
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  (void)syscall(SYS_capset, &head, data);
}

/* name_process: two processes with one command line could not be told apart in ps. The arguments
 * lie one behind the other; where what the kernel shows is not what lies there, they stay. */
static void name_process(void) {
  static const char title[] = "weir: loader";
  char shown[4096];
  (void)prctl(PR_SET_NAME, "weir-loader");
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t len = fd < 0 ? -1 : read(fd, shown, sizeof shown);
  if (fd >= 0) {
    close(fd);
  }
  size_t room = len > 0 ? (size_t)len : 0;
  if (room > 1 && memcmp(program_invocation_name, shown, room) == 0) {
    memset(program_invocation_name, 0, room);
    memcpy(program_invocation_name, title, room <= sizeof title ? room - 1 : sizeof title);
  }
}

/* The loader outlives no parent, runs nothing else, and is no way to another program. Signals of
 * the terminal or of a service manager are the parent's to act on: it may still drain. */
static void become_loader(int sock, pid_t parent) {
  sigset_t all;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, NULL);
  name_process();
  (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  keep_capabilities();
  (void)prctl(PR_SET_DUMPABLE, 0);
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent || dup2(sock, 3) < 0) {
    _exit(0);
  }
  (void)syscall(SYS_close_range, 4u, ~0u, 0u);
  (void)syscall(SYS_close_range, 0u, 1u, 0u);
  umask(0027);
  loader_serve(3);
  _exit(0);
}

int loader_start(struct loader *l) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
    return -errno;
  }
  pid_t parent = getpid();
  l->pid = fork();
  if (l->pid < 0) {
    int err = -errno;
    close(pair[0]);
    close(pair[1]);
    return err;
  }
  if (l->pid == 0) {
    become_loader(pair[1], parent);
  }
  close(pair[1]);
  l->sock = pair[0];
  atomic_init(&l->ended, false);
  pthread_mutex_init(&l->lock, NULL);
  return 0;
}

void loader_stop(struct loader *l) {
  if (l->sock < 0) {
    return;
  }
  close(l->sock);
  l->sock = -1;
  while (l->pid && waitpid(l->pid, NULL, 0) < 0 && errno == EINTR) {
  }
  pthread_mutex_destroy(&l->lock);
}

bool loader_ended(const struct loader *l) { return atomic_load(&l->ended); }

bool loader_reap(struct loader *l, int *status) {
  atomic_store(&l->ended, true);
  *status = LOADER_HOW_UNKNOWN;
  pid_t got = l->pid ? waitpid(l->pid, status, WNOHANG) : -1;
  if (got == 0 || (got < 0 && l->pid && errno == EINTR)) {
    return false;
  }
  l->pid = 0; /* ECHILD: another one has waited for it */
  return true;
}

/* ---- one exchange; the lock is held ---- */

/* no_loader is what a request has come to when nobody is there to answer it. */
static int no_loader(struct loader *l) {
  atomic_store(&l->ended, true);
  return -EPIPE;
}

static int request_send(struct loader *l, struct loader_request *request, struct span text) {
  if (l->sock < 0) {
    return no_loader(l);
  }
  if (text.len == 0 || text.len >= LOADER_TEXT_MAX) {
    return -ENAMETOOLONG;
  }
  request->magic = LOADER_MAGIC;
  request->len = (uint32_t)text.len;
  memcpy(request->text, text.ptr, text.len);
  ssize_t sent;
  do {
    sent = send(l->sock, request, LOADER_REQUEST_HEAD + text.len, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? no_loader(l) : 0;
}

/* take_fds copies the descriptors of a message; returns how many. */
static uint32_t take_fds(struct msghdr *msg, int *fds) {
  struct cmsghdr *c = CMSG_FIRSTHDR(msg);
  if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
    return 0;
  }
  size_t bytes = c->cmsg_len - CMSG_LEN(0);
  check(bytes <= LOADER_FDS_MAX * sizeof(int));
  memcpy(fds, CMSG_DATA(c), bytes);
  return (uint32_t)(bytes / sizeof(int));
}

/* reply_recv reads one reply; fds has room for LOADER_FDS_MAX. 0, -EPIPE: no loader any more, or
 * -EMFILE: we have no room for the descriptors that came. */
static int reply_recv(struct loader *l, struct loader_reply *reply, int *fds) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(LOADER_FDS_MAX * sizeof(int))];
  } control;
  struct iovec iov = {.iov_base = reply, .iov_len = sizeof *reply};
  struct msghdr msg = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got;
  do {
    got = recvmsg(l->sock, &msg, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < (ssize_t)LOADER_REPLY_HEAD) {
    return no_loader(l);
  }
  uint32_t fd_count = take_fds(&msg, fds);
  if (reply->magic != LOADER_MAGIC || reply->len != (size_t)got - LOADER_REPLY_HEAD ||
      reply->fd_count != fd_count) {
    for (uint32_t i = 0; i < fd_count; i++) {
      close(fds[i]);
    }
    return msg.msg_flags & MSG_CTRUNC ? -EMFILE : -EPIPE;
  }
  return 0;
}

/* exchange asks and waits for one reply. Its status, or what went wrong on the way. */
static int exchange(struct loader *l, struct loader_request *request, struct span text,
                    struct loader_reply *reply, int *fds) {
  pthread_mutex_lock(&l->lock);
  int err = request_send(l, request, text);
  if (err == 0) {
    err = reply_recv(l, reply, fds);
  }
  pthread_mutex_unlock(&l->lock);
  return err < 0 ? err : reply->status;
}

/* ---- calls ---- */

int loader_open(struct loader *l, enum loader_op op, const char *path) {
  struct loader_request request = {.op = op};
  struct loader_reply reply;
  int fds[LOADER_FDS_MAX];
  int err = exchange(l, &request, span_str(path), &reply, fds);
  if (err < 0) {
    return err;
  }
  return reply.fd_count == 1 ? fds[0] : -EPROTO;
}

static int read_all(int fd, struct text *out) {
  struct stat st;
  if (fstat(fd, &st) < 0) {
    return -errno;
  }
  if (st.st_size < 0 || st.st_size > (off_t)CONF_FILE_MAX) {
    return -EFBIG;
  }
  /* One byte more than it says, to see that it ends there. */
  size_t cap = (size_t)st.st_size + 1;
  *out = (struct text){.ptr = (char *)mem_alloc(cap), .cap = cap};
  while (out->len < out->cap) {
    ssize_t got = read(fd, out->ptr + out->len, out->cap - out->len);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return -errno;
    }
    if (got == 0) {
      return 0;
    }
    out->len += (size_t)got;
  }
  return -EAGAIN; /* it grew while it was read */
}

int loader_read(struct loader *l, const char *path, struct text *out) {
  int fd = loader_open(l, LOADER_READ, path);
  if (fd < 0) {
    return fd;
  }
  int err = -EAGAIN;
  for (int attempt = 0; attempt < 5 && err == -EAGAIN; attempt++) {
    if (lseek(fd, 0, SEEK_SET) < 0) {
      err = -errno;
      break;
    }
    err = read_all(fd, out);
    if (err < 0) {
      mem_wipe(out->ptr, out->len);
      mem_free(out->ptr);
      *out = (struct text){.ptr = NULL};
    }
  }
  close(fd);
  return err;
}

int loader_glob(struct loader *l, const char *pattern, void (*each)(const char *path, void *arg),
                void *arg) {
  struct loader_request request = {.op = LOADER_GLOB};
  struct loader_reply reply = {.more = 1};
  int fds[LOADER_FDS_MAX];
  char **paths = (char **)mem_array(LOADER_GLOB_MAX, sizeof(char *));
  uint32_t count = 0;
  pthread_mutex_lock(&l->lock);
  int err = request_send(l, &request, span_str(pattern));
  while (err == 0 && reply.more) {
    err = reply_recv(l, &reply, fds);
    if (err == 0 && reply.more && count < LOADER_GLOB_MAX) {
      paths[count++] = mem_str(span_of(reply.text, reply.len));
    }
  }
  pthread_mutex_unlock(&l->lock);
  err = err < 0 ? err : reply.status;
  /* each may read files through the same loader: only now. */
  for (uint32_t i = 0; i < count; i++) {
    if (err == 0) {
      each(paths[i], arg);
    }
    mem_free(paths[i]);
  }
  mem_free(paths);
  return err;
}

int loader_stat(struct loader *l, const char *path, struct loader_stat *out) {
  struct loader_request request = {.op = LOADER_STAT};
  struct loader_reply reply;
  int fds[LOADER_FDS_MAX];
  int err = exchange(l, &request, span_str(path), &reply, fds);
  if (err == 0) {
    *out = reply.stat;
  }
  return err;
}

void loader_unlink(struct loader *l, const char *path, const struct loader_stat *stat) {
  struct loader_request request = {.op = LOADER_UNLINK, .a = stat->dev, .b = stat->ino};
  struct loader_reply reply;
  int fds[LOADER_FDS_MAX];
  (void)exchange(l, &request, span_str(path), &reply, fds);
}

int loader_listen(struct loader *l, const struct loader_bind_conf *conf, int *fds,
                  uint32_t *fd_count, struct loader_stat *stat, struct buf *why) {
  struct loader_request request = {.op = LOADER_BIND,
                                   .flags = conf->flags,
                                   .count = conf->count,
                                   .a = conf->uid,
                                   .b = conf->gid};
  struct loader_reply reply = {.len = 0};
  int err = exchange(l, &request, conf->text, &reply, fds);
  if (err == 0) {
    *fd_count = reply.fd_count;
    *stat = reply.stat;
    return 0;
  }
  if (err == -EMFILE || err == -ENFILE) {
    buf_printf(why,
               "cannot bind " SPAN_FMT
               ": no descriptor is left: raise the limit "
               "(LimitNOFILE= of the unit, ulimit -n)",
               SPAN_ARG(conf->text));
  } else if (reply.len) {
    buf_put(why, span_of(reply.text, reply.len));
  } else {
    buf_printf(why, "cannot bind " SPAN_FMT ": " LOADER_ENDED, SPAN_ARG(conf->text));
  }
  return err;
}

/* ---- as a conf_reader ---- */

static int reader_read(void *ctx, const char *path, struct text *out) {
  return loader_read((struct loader *)ctx, path, out);
}

static int reader_glob(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
                       void *arg) {
  return loader_glob((struct loader *)ctx, pattern, each, arg);
}

static const char *reader_env(void *ctx, const char *name) {
  (void)ctx;
  return getenv(name);
}

static int reader_mode(void *ctx, const char *path) {
  struct loader_stat stat;
  int err = loader_stat((struct loader *)ctx, path, &stat);
  return err < 0 ? err : (int)stat.mode;
}

struct conf_reader loader_reader(struct loader *l) {
  return (struct conf_reader){.read = reader_read,
                              .glob = reader_glob,
                              .env = reader_env,
                              .mode = reader_mode,
                              .ctx = l};
}
