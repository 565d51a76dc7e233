/* The backend alone, for rows whose generator is another program (h2load). The counted window goes
 * by requests, not by the clock: it opens when a tenth of those that will come were answered and
 * closes at nine tenths, so that neither handshakes nor the last, lonely streams are in it.
 * Called by run.c and backend.c. */
#include "load.h"

#include "../common/net.h"

#include <stdio.h>

enum { WINDOW_PARTS = 10 };

static struct {
    uint64_t opens_at;
    uint64_t closes_at;
    bool open;
} window;

void serve_begin(struct load *load) {
    uint64_t part = load->opts.serve / WINDOW_PARTS;
    window.opens_at = part > 0 ? part : 1;
    window.closes_at = load->opts.serve - part;
    load_until_input_ends(load);
    printf("{\"serving\": %llu}\n", (unsigned long long)load->opts.serve);
    fflush(stdout);
}

void serve_answered(struct load *load, uint64_t body_bytes) {
    if (load->phase != PHASE_SERVE) {
        return;
    }
    load->answered++;
    if (window.open) {
        load->stats.requests++;
        load->stats.body_bytes += body_bytes;
    }
    if (load->answered == window.opens_at) {
        stats_window_open(load, bench_now_ns());
        window.open = true;
    }
    if (load->answered == window.closes_at) {
        stats_window_close(load, bench_now_ns());
        window.open = false;
    }
}

void serve_end(struct load *load) {
    if (load->answered != load->opts.serve) {
        load_error(load, "other than the requests that were to come:", (long)load->answered);
    }
}
