/* pipe_pool.c: pipes for splicing relays, kept LIFO per worker. An unprivileged user has few pages
 * for pipes (pipe-user-pages-soft): past it F_SETPIPE_SZ fails and new pipes get two pages, which
 * is slower than copying; so there is a bound, and who gets no good pipe copies. Called by
 * relay.c. */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/io_priv.h"
#include "weir/base/mem.h"

#define PIPE_IDLE_MAX 64u
#define PIPES_MIN 4u
#define PIPES_MAX 1024u

struct pipe_ends {
  int rd, wr;
  uint32_t cap;
};

struct pipe_pool {
  uint32_t open, max; /* pipes of this loop */
  uint32_t idle_count, idle_low;
  struct pipe_ends idle[PIPE_IDLE_MAX];
};

/* user_pages reads the user's limit; without it the kernel's default. */
static uint64_t user_pages(void) {
  unsigned long pages = 16384;
  FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
  if (file == NULL) return pages;
  if (fscanf(file, "%lu", &pages) != 1) pages = 16384;
  (void)fclose(file);
  return pages;
}

/* limit: this loop's share, as if there were one loop per processor. */
static uint32_t limit(void) {
  struct rlimit files = {0};
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  uint64_t share = cpus > 0 ? (uint64_t)cpus : 1;
  uint64_t pages = user_pages();
  uint64_t by_pages = pages ? pages / (PIPE_BYTES / 4096u) : PIPES_MAX; /* 0: no limit */
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) files.rlim_cur = 1024;
  uint64_t max = files.rlim_cur / 16;
  if (by_pages < max) max = by_pages;
  max /= share;
  if (max > PIPES_MAX) max = PIPES_MAX;
  return max < PIPES_MIN ? PIPES_MIN : (uint32_t)max;
}

void pipe_pool_init(struct loop *loop) {
  loop->pipes = NULL;
  if (loop->ops->splice == NULL) return;
  loop->pipes = mem_alloc(sizeof(*loop->pipes));
  loop->pipes->max = limit();
}

static void close_ends(struct loop *loop, int rd, int wr) {
  loop->ops->close_fd(loop, rd);
  loop->ops->close_fd(loop, wr);
  check(loop->pipes->open > 0);
  loop->pipes->open--;
}

static void drop_idle(struct loop *loop, uint32_t keep) {
  struct pipe_pool *pool = loop->pipes;
  while (pool->idle_count > keep) {
    struct pipe_ends *ends = &pool->idle[--pool->idle_count];
    close_ends(loop, ends->rd, ends->wr);
  }
}

void pipe_pool_fini(struct loop *loop) {
  struct pipe_pool *pool = loop->pipes;
  if (pool == NULL) return;
  drop_idle(loop, 0);
  check(pool->open == 0);
  mem_free(pool);
  loop->pipes = NULL;
}

void pipe_pool_trim(struct loop *loop) {
  struct pipe_pool *pool = loop->pipes;
  if (pool == NULL) return;
  drop_idle(loop, pool->idle_count - (pool->idle_low + 1) / 2);
  pool->idle_low = pool->idle_count;
}

bool pipe_take(struct loop *loop, struct relay *r) {
  struct pipe_pool *pool = loop->pipes;
  struct pipe_ends ends;
  if (pool->idle_count > 0) {
    ends = pool->idle[--pool->idle_count];
    if (pool->idle_count < pool->idle_low) pool->idle_low = pool->idle_count;
  } else {
    int fds[2];
    if (pool->open >= pool->max) return false;
    int cap = loop->ops->pipe(loop, fds);
    if (cap < 0) return false;
    pool->open++;
    ends = (struct pipe_ends){.rd = fds[0], .wr = fds[1], .cap = (uint32_t)cap};
  }
  r->pipe_rd = ends.rd;
  r->pipe_wr = ends.wr;
  r->pipe_cap = ends.cap;
  r->in_pipe = 0;
  return true;
}

void pipe_give(struct loop *loop, struct relay *r) {
  struct pipe_pool *pool = loop->pipes;
  if (r->in_pipe > 0 || pool->idle_count == PIPE_IDLE_MAX) {
    close_ends(loop, r->pipe_rd, r->pipe_wr);
  } else {
    pool->idle[pool->idle_count++] =
        (struct pipe_ends){.rd = r->pipe_rd, .wr = r->pipe_wr, .cap = r->pipe_cap};
  }
  r->pipe_rd = r->pipe_wr = -1;
  r->in_pipe = 0;
}
