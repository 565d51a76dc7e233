/* The pool of idle upstream connections of the message forwarders. See floor.h. */
#include "floor.h"

#include "../common/net.h"

void floor_pool_put(struct floor_pool *pool, int fd) {
    if (pool->count == FLOOR_FDS_MAX) {
        bench_die("upstream pool is full");
    }
    pool->fds[pool->count++] = fd;
}

int floor_pool_take(struct floor_pool *pool) {
    return pool->count == 0 ? -1 : pool->fds[--pool->count];
}

void floor_pool_drop(struct floor_pool *pool, int fd) {
    for (uint32_t i = 0; i < pool->count; i++) {
        if (pool->fds[i] == fd) {
            pool->fds[i] = pool->fds[--pool->count];
            return;
        }
    }
}
