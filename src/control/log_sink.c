/* log_sink.c: one output of the log: opening, writing, reopening. Nothing waits here where that
 * can be had: a pipe or socket that is full keeps what it did not take in the buffer and is tried
 * again. A pipe on stdout or stderr is opened anew, without blocking: the old description is
 * others' too. Where that is refused (another user made it) the kernel is asked not to wait, which
 * it can from 6.4 on. A terminal does wait, and the log thread with it.
 * Does not: decide what is written (log.c). Used by the log thread alone once it runs. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "control/loader_priv.h"
#include "control/log_priv.h"
#include "weir/base/mem.h"

static int open_path(struct log *log, const char *path) {
  if (log->loader) {
    return loader_open(log->loader, LOADER_APPEND, path);
  }
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  return fd < 0 ? -errno : fd;
}

/* own_pipe gives a description of our own that does not block: fd itself when it is that. */
static int own_pipe(const struct log_sink *sink) {
  char path[32];
  struct buf b = buf_of(path, sizeof path - 1);
  if (sink->is_own) {
    return fcntl(sink->fd, F_SETFL, O_APPEND | O_NONBLOCK) < 0 ? -1 : sink->fd;
  }
  buf_printf(&b, "/proc/self/fd/%d", sink->fd);
  path[b.len] = 0;
  return open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* sink_kind finds out how fd is written to. */
static void sink_kind(struct log_sink *sink) {
  struct stat st;
  bool known = fstat(sink->fd, &st) == 0;
  sink->is_socket = known && S_ISSOCK(st.st_mode);
  sink->is_pipe = known && S_ISFIFO(st.st_mode);
  sink->terminal = isatty(sink->fd);
  sink->torn = sink->blocked = false;
  int own = sink->is_pipe ? own_pipe(sink) : -1;
  if (own >= 0) {
    sink->fd = own;
    sink->is_own = true;
    sink->is_pipe = false; /* write() will do */
  }
}

int sink_open(struct log *log, struct log_sink *sink, const char *to) {
  sink->out = buf_of(mem_alloc(LOG_BUFFER_BYTES), LOG_BUFFER_BYTES);
  sink->name = mem_str(span_str(to));
  if (strcmp(to, "stderr") == 0 || strcmp(to, "stdout") == 0) {
    sink->fd = strcmp(to, "stderr") == 0 ? STDERR_FILENO : STDOUT_FILENO;
  } else {
    sink->is_path = sink->is_own = true;
    sink->fd = open_path(log, to);
  }
  if (sink->fd >= 0) {
    sink_kind(sink);
  }
  return sink->fd < 0 ? sink->fd : 0;
}

void sink_reopen(struct log *log, struct log_sink *sink) {
  if (!sink->is_path) {
    return;
  }
  int fd = open_path(log, sink->name);
  if (fd < 0) {
    bool no_loader = log->loader && loader_ended(log->loader);
    log_line(log, END_LEVEL_ERROR, "log %s cannot be reopened: %s; the old file is still written",
             sink->name, no_loader ? LOADER_ENDED : strerrordesc_np(-fd));
    return;
  }
  if (sink->fd >= 0) {
    close(sink->fd);
  }
  sink->fd = fd;
  sink_kind(sink);
}

void sink_fini(struct log_sink *sink) {
  if (sink->is_own && sink->fd >= 0) {
    close(sink->fd);
  }
  mem_free(sink->name);
  mem_free(sink->out.ptr);
}

static uint64_t count_lines(struct span s) {
  uint64_t lines = 0;
  for (size_t at = 0; (at = span_find_char(s, '\n', at)) != SIZE_MAX; at++) {
    lines++;
  }
  return lines;
}

static ssize_t write_now(struct log_sink *sink, struct span s) {
  if (sink->is_socket) {
    return send(sink->fd, s.ptr, s.len, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  if (sink->is_pipe) {
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)s.ptr, .iov_len = s.len};
    ssize_t n = pwritev2(sink->fd, &iov, 1, -1, RWF_NOWAIT);
    if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) {
      return n;
    }
    sink->is_pipe = false; /* this kernel waits */
  }
  return write(sink->fd, s.ptr, s.len);
}

/* write_some gives bytes written, 0 when the output is full for now, or -errno. */
static ssize_t write_some(struct log_sink *sink, struct span s) {
  for (;;) {
    ssize_t n = write_now(sink, s);
    if (n >= 0) {
      return n;
    }
    if (errno == EAGAIN) {
      sink->blocked = true;
      return 0;
    }
    if (errno != EINTR) {
      return -errno;
    }
  }
}

/* keep moves what the output did not take to the beginning of the buffer. */
static void keep(struct log_sink *sink, struct span left) {
  if (left.len) {
    memmove(sink->out.ptr, left.ptr, left.len);
  }
  sink->out.len = left.len;
  sink->out.full = false;
}

static void lose(struct log_sink *sink, struct span left, ssize_t err) {
  size_t sent = sink->out.len - left.len;
  sink->lost += count_lines(left);
  sink->error = (int)-err;
  sink->torn = sink->torn || (sent && sink->out.ptr[sent - 1] != '\n');
  keep(sink, SPAN_EMPTY);
}

/* A line that was cut off is ended before the next one. */
static ssize_t mend(struct log_sink *sink) {
  ssize_t n = sink->torn ? write_some(sink, SPAN_LIT("\n")) : 1;
  sink->torn = n != 1;
  return n < 0 ? n : 0;
}

void sink_flush(struct log_sink *sink) {
  struct span left = buf_span(&sink->out);
  sink->blocked = false;
  if (!left.len) {
    return;
  }
  ssize_t n = mend(sink);
  while (left.len && n >= 0 && !sink->blocked) {
    n = write_some(sink, left);
    left = n > 0 ? span_from(left, (size_t)n) : left;
  }
  if (n < 0) {
    lose(sink, left, n);
  } else {
    keep(sink, left);
  }
}
