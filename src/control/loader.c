/* loader.c: the loader process: answers "open this", "which match", "has it changed", "bind that".
 * Forked by loader_client.c; shares nothing with the rest but one socket. It keeps the few
 * capabilities that the work needs and no descriptor but its socket and stderr, reads no file's
 * bytes (it passes descriptors, so it has no secret to wipe), and dies with its parent. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/loader_priv.h"

static bool has_nul(const char *text, size_t len) { return memchr(text, 0, len) != NULL; }

bool loader_check_request(const struct loader_request *r, size_t received) {
  return received >= LOADER_REQUEST_HEAD && received <= sizeof *r && r->magic == LOADER_MAGIC &&
         r->op < LOADER_OP_COUNT && (r->flags & ~(uint32_t)LOADER_FLAGS) == 0 &&
         r->count <= LOADER_FDS_MAX && r->len > 0 && r->len < LOADER_TEXT_MAX &&
         r->len == received - LOADER_REQUEST_HEAD && !has_nul(r->text, r->len);
}

/* reply_send sends the head, the text and the descriptors, and closes them here. */
static bool reply_send(int sock, struct loader_reply *reply, const int *fds) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(LOADER_FDS_MAX * sizeof(int))];
  } control;
  struct iovec iov = {.iov_base = reply, .iov_len = LOADER_REPLY_HEAD + reply->len};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  size_t fd_bytes = reply->fd_count * sizeof(int);
  if (reply->fd_count) {
    memset(&control, 0, sizeof control);
    msg.msg_control = control.bytes;
    msg.msg_controllen = CMSG_SPACE(fd_bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fd_bytes);
    memcpy(CMSG_DATA(c), fds, fd_bytes);
  }
  ssize_t sent;
  do {
    sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  for (uint32_t i = 0; i < reply->fd_count; i++) {
    close(fds[i]);
  }
  return sent >= 0;
}

/* Only regular files: a pipe or a device could hold this process up for ever. */
static int open_regular(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    return -errno;
  }
  struct stat st;
  int err = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0
            : S_ISDIR(st.st_mode)                             ? -EISDIR
                                                              : -EINVAL;
  if (err < 0) {
    close(fd);
    return err;
  }
  return fd;
}

static int open_append(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
  return fd < 0 ? -errno : fd;
}

static bool serve_open(int sock, const char *path, bool append) {
  struct loader_reply reply = {.magic = LOADER_MAGIC};
  int fd = append ? open_append(path) : open_regular(path);
  reply.status = fd < 0 ? fd : 0;
  reply.fd_count = fd < 0 ? 0 : 1;
  return reply_send(sock, &reply, &fd);
}

/* finding is the answer to a pattern, on its way. */
struct finding {
  struct loader_reply reply;
  uint32_t count;
  int sock;
  bool ok; /* it could be sent */
};

/* found_path is one path that a pattern fits, sent as it is found; the client keeps none of them
 * where the end says that something was wrong. */
static void found_path(const char *path, void *arg) {
  struct finding *f = arg;
  size_t len = strlen(path);
  if (!f->ok || len >= LOADER_TEXT_MAX || ++f->count > LOADER_GLOB_MAX) {
    return;
  }
  f->reply.len = (uint32_t)len;
  memcpy(f->reply.text, path, len);
  f->ok = reply_send(f->sock, &f->reply, NULL);
}

/* serve_glob: in byte order, and by the code of the CLI: both find the same. */
static bool serve_glob(int sock, const char *pattern) {
  struct finding f = {.reply = {.magic = LOADER_MAGIC, .more = 1}, .sock = sock, .ok = true};
  int err = conf_reader_direct.glob(NULL, pattern, found_path, &f);
  f.reply.more = 0;
  f.reply.len = 0;
  f.reply.status = f.count > LOADER_GLOB_MAX ? -E2BIG : err;
  return f.ok && reply_send(sock, &f.reply, NULL);
}

static void stat_copy(const struct stat *st, struct loader_stat *out) {
  *out = (struct loader_stat){
      .dev = st->st_dev,
      .ino = st->st_ino,
      .size = (uint64_t)st->st_size,
      .mode = st->st_mode & 07777u,
      .mtime_ns = st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
      .ctime_ns = st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
  };
}

static bool serve_stat(int sock, const char *path) {
  struct loader_reply reply = {.magic = LOADER_MAGIC};
  struct stat st;
  if (stat(path, &st) < 0) {
    reply.status = -errno;
  } else {
    stat_copy(&st, &reply.stat);
  }
  return reply_send(sock, &reply, NULL);
}

static bool serve_unlink(int sock, const struct loader_request *request, const char *path) {
  struct loader_reply reply = {.magic = LOADER_MAGIC};
  struct stat st;
  if (lstat(path, &st) < 0) {
    reply.status = -errno;
  } else if (!S_ISSOCK(st.st_mode) || st.st_dev != request->a || st.st_ino != request->b) {
    reply.status = -EPERM;
  } else if (unlink(path) < 0) {
    reply.status = -errno;
  }
  return reply_send(sock, &reply, NULL);
}

static bool serve_bind(int sock, const struct loader_request *request) {
  struct loader_reply reply = {.magic = LOADER_MAGIC};
  int fds[LOADER_FDS_MAX];
  struct buf why = buf_of(reply.text, sizeof reply.text);
  reply.status = loader_bind(request, fds, &reply.stat, &why);
  if (reply.status == 0) {
    reply.fd_count = request->flags & LOADER_REUSEPORT ? request->count : 1;
  } else {
    reply.len = (uint32_t)why.len;
  }
  return reply_send(sock, &reply, fds);
}

static bool serve_one(int sock, const struct loader_request *request) {
  char path[LOADER_TEXT_MAX];
  memcpy(path, request->text, request->len);
  path[request->len] = 0;
  switch ((enum loader_op)request->op) {
    case LOADER_READ:
      return serve_open(sock, path, false);
    case LOADER_APPEND:
      return serve_open(sock, path, true);
    case LOADER_GLOB:
      return serve_glob(sock, path);
    case LOADER_STAT:
      return serve_stat(sock, path);
    case LOADER_BIND:
      return serve_bind(sock, request);
    case LOADER_UNLINK:
      return serve_unlink(sock, request, path);
    case LOADER_OP_COUNT:
      break;
  }
  return false;
}

void loader_serve(int sock) {
  static struct loader_request request;
  static const struct loader_reply refusal = {.magic = LOADER_MAGIC, .status = -EPROTO};
  for (;;) {
    ssize_t got = recv(sock, &request, sizeof request, MSG_TRUNC);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return; /* the parent is gone */
    }
    struct loader_reply refused = {.magic = refusal.magic, .status = refusal.status};
    bool ok = loader_check_request(&request, (size_t)got) ? serve_one(sock, &request)
                                                          : reply_send(sock, &refused, NULL);
    if (!ok) {
      return;
    }
  }
}
