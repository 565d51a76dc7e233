/* What is counted, and how it is printed: latencies in a log-linear histogram (64 steps per
 * doubling, so a quantile is at most 1.6 % off) and the CPU clock of the watched processes.
 * Called by run.c, serve.c and client.c. */
#include "load.h"

#include "../common/net.h"

#include <stdio.h>
#include <time.h>

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

static struct {
    uint64_t start_ns;
    uint64_t cpu_start_ns;
    uint64_t self_start_ns;
} window;

static uint32_t slot_of(uint64_t ns) {
    if (ns < SUB) {
        return (uint32_t)ns;
    }
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (uint32_t)(ns >> shift) - SUB;
}

/* The middle of a slot, in nanoseconds. */
static double slot_value(uint32_t slot) {
    if (slot < SUB) {
        return slot;
    }
    uint32_t shift = (slot >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t low = (uint64_t)((slot & (SUB - 1)) + SUB) << shift;
    return (double)low + (double)(1ull << shift) / 2;
}

void stats_latency_add(struct stats *stats, uint64_t ns) {
    stats->latency[slot_of(ns)]++;
}

static double quantile_us(const struct stats *stats, double q) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < HISTOGRAM_SLOTS; i++) {
        total += stats->latency[i];
    }
    uint64_t rank = (uint64_t)((double)total * q);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += stats->latency[i];
        if (seen > rank) {
            return slot_value(i) / 1000;
        }
    }
    return 0;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec ts;
    if (clock_gettime(clock, &ts) != 0) {
        bench_die("CPU clock");
    }
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t self_ns(void) {
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static uint64_t watched_ns(const struct load_opts *opts) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < opts->watch_count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(opts->watch[i], &clock) != 0) {
            bench_die("CPU clock of a watched process");
        }
        sum += clock_ns(clock);
    }
    return sum;
}

void stats_window_open(struct load *load, uint64_t now_ns) {
    window.start_ns = now_ns;
    window.cpu_start_ns = watched_ns(&load->opts);
    window.self_start_ns = self_ns();
    load->stats.turns = 0;
    load->stats.empty_turns = 0;
}

void stats_window_close(struct load *load, uint64_t now_ns) {
    load->stats.cpu_ns = watched_ns(&load->opts) - window.cpu_start_ns;
    load->stats.self_ns = self_ns() - window.self_start_ns;
    load->stats.window_ns = now_ns - window.start_ns;
}

static void print_u64(const char *name, uint64_t value) {
    printf("\"%s\": %llu, ", name, (unsigned long long)value);
}

void stats_print(const struct stats *stats) {
    printf("{");
    print_u64("requests", stats->requests);
    print_u64("errors", stats->errors);
    print_u64("backend_errors", stats->backend_errors);
    print_u64("reconnects", stats->reconnects);
    print_u64("handshakes", stats->handshakes);
    print_u64("resumed", stats->resumed);
    print_u64("body_bytes", stats->body_bytes);
    print_u64("cpu_ns", stats->cpu_ns);
    print_u64("self_ns", stats->self_ns);
    double turns = stats->turns > 0 ? (double)stats->turns : 1;
    printf("\"seconds\": %.6f, ", (double)stats->window_ns / 1e9);
    printf("\"empty_turns\": %.3f, ", (double)stats->empty_turns / turns);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, ", quantile_us(stats, 0.5),
           quantile_us(stats, 0.99), quantile_us(stats, 0.999));
    printf("\"tls\": \"%s\", \"first_error\": \"%s\"}\n", stats->tls, stats->first_error);
    fflush(stdout);
}
