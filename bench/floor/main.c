/* bench-floor: options of the bare forwarder. See floor.h for what it does and does not. */
#include "floor.h"

#include "../common/net.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option long_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"upstream", required_argument, NULL, 'u'},
    {"engine", required_argument, NULL, 'e'},
    {"core", required_argument, NULL, 'c'},
    {"defer", no_argument, NULL, 'd'},
    {"splice-up", no_argument, NULL, 's'},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name;
    void (*run)(const struct floor_opts *opts);
} engines[] = {
    {"uring", floor_run_uring},
    {"epoll", floor_run_epoll},
    {"splice", floor_run_splice},
};

static _Noreturn void usage(void) {
  fprintf(stderr,
          "usage: bench-floor --listen PORT --upstream PORT [--engine uring|epoll|splice]"
          " [--core N] [--defer] [--splice-up]\n");
  exit(2);
}

static size_t engine_find(const char *name) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(name, engines[i].name) == 0) {
            return i;
        }
    }
    usage();
}

int main(int argc, char **argv) {
    struct floor_opts opts = {0};
    size_t engine = 0;
    int code;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (code) {
        case 'l': opts.listen_port = (uint16_t)bench_number("listen", optarg, 65535); break;
        case 'u': opts.upstream_port = (uint16_t)bench_number("upstream", optarg, 65535); break;
        case 'e': engine = engine_find(optarg); break;
        case 'c': bench_pin((int)bench_number("core", optarg, 1023)); break;
        case 'd': opts.defer = true; break;
        case 's': opts.splice_up = true; break;
        default: usage();
        }
    }
    if (opts.listen_port == 0 || opts.upstream_port == 0 || optind != argc) {
        usage();
    }
    signal(SIGPIPE, SIG_IGN);
    engines[engine].run(&opts);
}
