/* bench-load: generator and backend, or the backend alone, in one spinning thread on one core.
 * Prints one line of JSON. Deliberately no comparison and no proxy handling: bench/compare does
 * that. The options are rows of options.def, --watch PID,PID... names the proxy's processes,
 * --core N the core. */
#include "load.h"

#include "../common/net.h"

#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_BASE = 256, OPTION_WATCH = 1, OPTION_CORE = 2, OPTION_HELP = 3 };

enum {
#define NUMBER(name, field, max, preset, help) OPTION_##field,
#define FLAG(name, field, help) OPTION_##field,
#include "options.def"
#undef NUMBER
#undef FLAG
};

static const struct option long_options[] = {
#define NUMBER(name, field, max, preset, help) \
    {name, required_argument, NULL, OPTION_BASE + OPTION_##field},
#define FLAG(name, field, help) {name, no_argument, NULL, OPTION_BASE + OPTION_##field},
#include "options.def"
#undef NUMBER
#undef FLAG
    {"watch", required_argument, NULL, OPTION_WATCH},
    {"core", required_argument, NULL, OPTION_CORE},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static _Noreturn void usage(int code) {
    FILE *out = code == 0 ? stdout : stderr;
    fprintf(out, "usage: bench-load --proxy PORT --backend PORT [options]\n");
#define NUMBER(name, field, max, preset, help) \
    fprintf(out, "  --%-12s N  %s (default %d)\n", name, help, preset);
#define FLAG(name, field, help) fprintf(out, "  --%-12s    %s\n", name, help);
#include "options.def"
#undef NUMBER
#undef FLAG
    fprintf(out, "  --watch PID,PID... processes whose CPU time is counted\n");
    fprintf(out, "  --core N           core to spin on\n");
    exit(code);
}

static void watch_parse(struct load_opts *o, char *list) {
    char *rest = list;
    char *word;
    while ((word = strsep(&rest, ",")) != NULL) {
        if (o->watch_count == WATCH_MAX) {
            fprintf(stderr, "bench-load: --watch: at most %d processes\n", WATCH_MAX);
            exit(2);
        }
        o->watch[o->watch_count++] = (int)bench_number("watch", word, INT_MAX);
    }
}

static void option_take(struct load_opts *o, int code) {
    switch (code) {
#define NUMBER(name, field, max, preset, help)                                \
    case OPTION_BASE + OPTION_##field:                                        \
        o->field = (__typeof__(o->field))bench_number(name, optarg, max);     \
        return;
#define FLAG(name, field, help)        \
    case OPTION_BASE + OPTION_##field: \
        o->field = true;               \
        return;
#include "options.def"
#undef NUMBER
#undef FLAG
    case OPTION_WATCH:
        watch_parse(o, optarg);
        return;
    case OPTION_CORE:
        o->core = (int)bench_number("core", optarg, 1023);
        return;
    case OPTION_HELP:
        usage(0);
    default:
        usage(2);
    }
}

static void options_parse(struct load_opts *o, int argc, char **argv) {
    *o = (struct load_opts){
        .core = -1,
#define NUMBER(name, field, max, preset, help) .field = preset,
#define FLAG(name, field, help) .field = false,
#include "options.def"
#undef NUMBER
#undef FLAG
    };
    int code;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        option_take(o, code);
    }
    if (optind != argc || (o->proxy_port == 0 && o->serve == 0) || o->backend_port == 0 ||
        o->connections == 0 || o->opening_max == 0) {
        usage(2);
    }
}

int main(int argc, char **argv) {
    static struct load load;
    options_parse(&load.opts, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    bench_pin(load.opts.core);
    if (load.opts.tls) {
        load.tls = tls_context_new();
    }
    load_run(&load);
    stats_print(&load.stats);
    SSL_CTX_free(load.tls);
    return load.stats.errors == 0 ? 0 : 1;
}
