/* The loop and the phases of a run: open, warm up, measure, drain (or hold, for the memory rows).
 * It spins: epoll is asked with no timeout, because a generator that sleeps makes the proxy pay
 * for waking its core. Every phase is bounded: by the clock, or by the stall limit while opening.
 * Called by main.c. */
#include "load.h"

#include "../common/net.h"

#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, HOLD_WAIT_MS = 20, ERRORS_MAX = 1000 };

#define MS 1000000ull
static const uint64_t drain_ns = 3000 * MS;
static const uint64_t stall_ns = 10000 * MS;
static const uint64_t hold_ns = 600000 * MS;

static struct {
    uint64_t until_ns;
} timer;

void load_error(struct load *load, const char *what, long detail) {
    struct stats *s = &load->stats;
    if (s->errors++ == 0) {
        snprintf(s->first_error, sizeof s->first_error, "%s (%ld)", what, detail);
    }
    if (s->errors >= ERRORS_MAX) {
        load->phase = PHASE_END;
    }
}

static void control(struct load *load, int op, struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(load->epfd, op, source->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
}

void load_watch(struct load *load, struct source *source, uint32_t events) {
    control(load, EPOLL_CTL_ADD, source, events);
}

void load_rewatch(struct load *load, struct source *source, uint32_t events) {
    control(load, EPOLL_CTL_MOD, source, events);
}

static void input_on_event(struct load *load, struct source *source, uint32_t events) {
    (void)events;
    char byte;
    if (read(source->fd, &byte, 1) <= 0) {
        load->stop_asked = true;
    }
}

void load_until_input_ends(struct load *load) {
    load->input = (struct source){.on_event = input_on_event, .fd = STDIN_FILENO};
    load_watch(load, &load->input, EPOLLIN);
}

static void phase_set(struct load *load, enum PHASE phase, uint64_t until_ns) {
    load->phase = phase;
    timer.until_ns = until_ns;
}

/* Opening is over: every connection that waits for the others asks now. */
static void start_all(struct load *load, uint64_t now_ns) {
    if (load->opts.rate != 0) {
        return;
    }
    for (uint32_t i = 0; i < load->opts.connections; i++) {
        client_request(load, i, now_ns);
    }
}

static void open_step(struct load *load, uint64_t now_ns) {
    const struct load_opts *o = &load->opts;
    while (load->started < o->connections && load->started - load->served < o->opening_max) {
        client_open(load, load->started++, now_ns);
    }
    if (load->served < o->connections) {
        if (load->stats.errors > 0) {
            load->phase = PHASE_END; /* a client that failed stays closed, is never served */
        }
        return;
    }
    load->next_due_ns = now_ns;
    if (!o->hold) {
        phase_set(load, PHASE_WARMUP, now_ns + o->warmup_ms * MS);
        start_all(load, now_ns);
        return;
    }
    phase_set(load, PHASE_HOLD, now_ns + hold_ns);
    printf("{\"held\": %u}\n", o->connections);
    fflush(stdout);
    load_until_input_ends(load);
}

static void window_open(struct load *load, uint64_t now_ns) {
    phase_set(load, PHASE_MEASURE, now_ns + load->opts.measure_ms * MS);
    stats_window_open(load, now_ns);
}

static void window_close(struct load *load, uint64_t now_ns) {
    stats_window_close(load, now_ns);
    phase_set(load, PHASE_DRAIN, now_ns + drain_ns);
}

static void drain_step(struct load *load, uint64_t now_ns) {
    if (load->in_flight > 0 && now_ns < timer.until_ns) {
        return;
    }
    if (load->in_flight > 0) {
        load_error(load, "requests without a response", load->in_flight);
    }
    load->phase = PHASE_END;
}

static void phase_step(struct load *load, uint64_t now_ns) {
    bool due = now_ns >= timer.until_ns;
    switch (load->phase) {
    case PHASE_OPEN:
        open_step(load, now_ns);
        break;
    case PHASE_WARMUP:
        if (due) {
            window_open(load, now_ns);
        }
        break;
    case PHASE_MEASURE:
        if (due) {
            window_close(load, now_ns);
        }
        break;
    case PHASE_DRAIN:
        drain_step(load, now_ns);
        break;
    case PHASE_SERVE:
    case PHASE_HOLD:
        if (due || load->stop_asked) {
            load->phase = PHASE_END;
        }
        break;
    case PHASE_END:
        break;
    }
}

/* Fixed rate: a request is due at its time whether or not a connection is free, and its latency
 * counts from then. Bounded by the connections that are idle. */
static void rate_step(struct load *load, uint64_t now_ns) {
    const struct load_opts *o = &load->opts;
    if (o->rate == 0 || (load->phase != PHASE_WARMUP && load->phase != PHASE_MEASURE)) {
        return;
    }
    while (load->next_due_ns <= now_ns && load->idle_count > 0) {
        uint32_t index = load->idle[load->idle_head];
        load->idle_head = (load->idle_head + 1) % o->connections;
        load->idle_count--;
        client_request(load, index, load->next_due_ns);
        load->next_due_ns += 1000000000u / o->rate;
    }
}

static void stall_check(struct load *load, uint64_t now_ns) {
    if (load->phase < PHASE_DRAIN && now_ns > load->last_done_ns + stall_ns) {
        load_error(load, "no response for 10 s; in flight:", load->in_flight);
        load->phase = PHASE_END;
    }
}

static void turn(struct load *load) {
    struct epoll_event events[EVENTS_MAX];
    int wait_ms = load->phase == PHASE_HOLD ? HOLD_WAIT_MS : 0;
    int count = epoll_wait(load->epfd, events, EVENTS_MAX, wait_ms);
    load->stats.turns++;
    load->stats.empty_turns += count <= 0 ? 1 : 0;
    if (count <= 0 && load->phase == PHASE_SERVE) {
        sched_yield(); /* the core is shared with the other generator, and never idle */
    }
    for (int i = 0; i < count; i++) {
        struct source *source = events[i].data.ptr;
        source->on_event(load, source, events[i].events);
    }
    if (load->phase == PHASE_END) {
        return;
    }
    uint64_t now_ns = bench_now_ns();
    phase_step(load, now_ns);
    rate_step(load, now_ns);
    stall_check(load, now_ns);
}

void load_run(struct load *load) {
    load->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epfd < 0) {
        bench_die("epoll_create1");
    }
    body_init();
    backend_init(load);
    clients_init(load);
    load->last_done_ns = bench_now_ns();
    if (load->opts.serve > 0) {
        phase_set(load, PHASE_SERVE, load->last_done_ns + hold_ns);
        serve_begin(load);
    }
    while (load->phase != PHASE_END) {
        turn(load);
    }
    if (load->opts.serve > 0) {
        serve_end(load);
    }
    clients_fini(load);
}
