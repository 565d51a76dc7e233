/* check_protocols.c: what a listener's protocols mean with and without TLS, and the sizes of h2.
 * h2 and http/1.1 are chosen by ALPN where there is TLS (RFC 7301); without it h2c is HTTP/2 by
 * prior knowledge (RFC 9113 section 3.3). Over TCP with TLS they are any names of ALPN. Called by
 * apply.c and check.c. */
#include "doubt_priv.h"
#include "load_priv.h"

#define NAMES_MAX 16u /* of a listener of TCP */

static bool has_protocol(const struct conf_listener *listener, struct span protocol) {
  for (uint32_t i = 0; i < listener->protocols.count; i++)
    if (span_eq(listener->protocols.items[i].text, protocol)) return true;
  return false;
}

void protocols_default(struct conf_listener *listener) {
  struct conf_list *list = &listener->protocols;
  bool given = row_origin(&listener->row, OPTION_LISTENER_PROTOCOLS)->node;
  if (listener->protocol != CONF_HTTP && !given) list->count = 0;
  if (listener->has_tls || given) return;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < list->count; i++)
    if (!span_eq(list->items[i].text, SPAN_LIT("h2"))) list->items[kept++] = list->items[i];
  list->count = kept;
}

/* is_known: is it a word of HTTP? */
static bool is_known(struct conf *conf, const struct conf_item *item) {
  const struct node node = {.at = item->at};
  struct value_job job = {.arena = &conf->arena,
                          .faults = conf->faults,
                          .option = option_get(OPTION_LISTENER_PROTOCOLS),
                          .node = &node,
                          .text = item->text};
  return value_protocol(&job);
}

static void check_protocol(struct conf *conf, const struct conf_listener *listener,
                           const struct conf_item *item) {
  struct span name = listener->row.name;
  bool plain = listener_plain(listener);
  if (!is_known(conf, item)) return;
  if (listener->has_tls && span_eq(item->text, SPAN_LIT("h2c"))) {
    fault_add(conf->faults, FAULT_H2C_ON_TLS, item->at,
              "listener \"" SPAN_FMT "\" has TLS: h2c is for listeners without", SPAN_ARG(name));
    fault_note(conf->faults, "use \"h2\"");
  } else if (plain && span_eq(item->text, SPAN_LIT("h2"))) {
    fault_add(conf->faults, FAULT_H2_ON_PLAIN, item->at,
              "listener \"" SPAN_FMT "\" has no TLS: h2 is chosen by ALPN", SPAN_ARG(name));
    fault_note(conf->faults, "use \"h2c\", for clients that know before; or add tls");
  }
}

/* check_windows tells it where the larger one was set, if only that was. */
static void check_windows(struct conf *conf, const struct conf_listener *listener) {
  const struct listener_h2 *h2 = &listener->h2;
  if (row_lost_any(&listener->row, OPTION_LISTENER_H2_STREAM_WINDOW, OPTION_LISTENER_H2_WINDOW))
    return;
  if (h2->window >= h2->stream_window) return;
  bool window = row_origin(&listener->row, OPTION_LISTENER_H2_WINDOW)->node != NULL;
  fault_add(conf->faults, FAULT_H2_WINDOWS,
            row_place(&listener->row,
                      window ? OPTION_LISTENER_H2_WINDOW : OPTION_LISTENER_H2_STREAM_WINDOW),
            "listener \"" SPAN_FMT "\": h2.window (%u KiB) is below h2.stream_window (%u KiB)",
            SPAN_ARG(listener->row.name), h2->window >> 10, h2->stream_window >> 10);
  fault_note(conf->faults, "h2.window holds for all streams together: raise it");
}

/* check_names: each handshake compares all of them with all that the client offers. */
static void check_names(struct conf *conf, const struct conf_listener *listener) {
  if (listener->protocols.count <= NAMES_MAX) return;
  fault_add(conf->faults, FAULT_OUT_OF_RANGE, listener->protocols.items[NAMES_MAX].at,
            "listener \"" SPAN_FMT "\" names %u protocols", SPAN_ARG(listener->row.name),
            listener->protocols.count);
  fault_note(conf->faults, "at most %u", NAMES_MAX);
}

void check_protocols(struct conf *conf, const struct conf_listener *listener) {
  if (listener->protocol == CONF_TCP) check_names(conf, listener); /* without TLS: check_tcp.c */
  if (listener->protocol != CONF_HTTP) return;
  check_windows(conf, listener);
  /* Where keys are broken tls or protocol may be one of them. */
  if (faults_has_syntax(conf->faults) || row_lost(&listener->row, OPTION_LISTENER_PROTOCOL))
    return;
  for (uint32_t i = 0; i < listener->protocols.count; i++)
    check_protocol(conf, listener, &listener->protocols.items[i]);
}

void check_h2_used(struct conf *conf, const struct conf_listener *listener) {
  if (has_protocol(listener, SPAN_LIT("h2")) || has_protocol(listener, SPAN_LIT("h2c"))) return;
  for (uint32_t id = OPTION_LISTENER_H2_STREAMS; id <= OPTION_LISTENER_H2_AGE; id++) {
    if (!row_changed(&listener->row, (enum option_id)id)) continue;
    struct span key = option_local(option_get((enum option_id)id));
    fault_add(conf->faults, FAULT_H2_UNUSED, row_place(&listener->row, (enum option_id)id),
              "listener \"" SPAN_FMT "\": " SPAN_FMT " has no effect without %s in protocols",
              SPAN_ARG(listener->row.name), SPAN_ARG(key),
              listener->has_tls ? "\"h2\"" : "\"h2c\"");
    return;
  }
}

void check_shake_used(struct conf *conf, const struct conf_listener *listener) {
  const enum option_id id = OPTION_LISTENER_HANDSHAKE;
  if (listener->protocol != CONF_HTTP || listener->has_tls) return; /* others: check_tcp.c */
  if (!row_changed(&listener->row, id)) return;
  fault_add(conf->faults, FAULT_SHAKE_UNUSED, row_place(&listener->row, id),
            "listener \"" SPAN_FMT "\": timeouts.handshake has no effect without tls",
            SPAN_ARG(listener->row.name));
}
