/* check_tls_estate.c: what the keys of listeners.*.tls beside certificates mean together, and the
 * bytes of ticket keys. Called by check.c and secrets.c. */
#include "doubt_priv.h"
#include "load_priv.h"

/* check_ciphers: those of TLS 1.3 are the library's affair. */
static void check_ciphers(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  bool only_13 = listener->tls_min == 1 && listener->tls_max == 1;
  if (!listener->tls_ciphers.count || !only_13) return;
  if (row_lost(row, OPTION_LISTENER_TLS_MIN) || row_lost(row, OPTION_LISTENER_TLS_MAX)) return;
  fault_add(conf->faults, FAULT_CIPHERS_UNUSED, row_place(row, OPTION_LISTENER_TLS_CIPHERS),
            "listener \"" SPAN_FMT
            "\": ciphers are those of TLS 1.2, which there is not with min_version = \"1.3\"",
            SPAN_ARG(row->name));
  fault_note(conf->faults, "leave ciphers out: the suites of TLS 1.3 are always the same");
}

void check_tls_estate(struct conf *conf, const struct conf_listener *listener) {
  struct span name = listener->row.name;
  check_ciphers(conf, listener);
  if (!listener->ticket_keys.count) return;
  struct place at = row_place(&listener->row, OPTION_LISTENER_TICKET_KEYS);
  if (!listener->tls_tickets) { /* written: it is no default */
    fault_add(conf->faults, FAULT_TICKETS_UNUSED, at,
              "listener \"" SPAN_FMT "\": tickets is false: no ticket is encrypted",
              SPAN_ARG(name));
    fault_note(conf->faults, "leave ticket_keys out, or tickets = false");
  }
  if (listener->ticket_keys.count <= CONF_TICKET_KEYS_MAX) return;
  fault_add(
      conf->faults, FAULT_TICKETS_UNUSED, listener->ticket_keys.items[CONF_TICKET_KEYS_MAX].at,
      "listener \"" SPAN_FMT "\" has %u ticket keys", SPAN_ARG(name), listener->ticket_keys.count);
  fault_note(conf->faults, "the oldest may go: clients keep a ticket for two days at most");
}

/* all_asked: is a certificate asked of every client, whatever name it gives? Rows of names may be
 * all that there is, but clients of other names are then asked for none. */
static bool all_asked(const struct conf_listener *listener) {
  rows_each(&listener->clients, struct conf_client_auth, row)
    if (!row_origin(&row->row, OPTION_CLIENT_NAMES)->node) return true;
  return false;
}

void check_early(struct conf *conf, const struct conf_listener *listener) {
  if (!listener->tls_early) return;
  const char *why = listener->tls_max == 0 ? "there is no early data with max_version = \"1.2\""
                    : !listener->tls_tickets
                        ? "there is no early data with tickets = false"
                    : all_asked(listener) && !faults_has_syntax(conf->faults)
                        ? "no early data is taken where client asks for certificates, and it asks "
                          "all clients"
                        : NULL;
  if (!why) return;
  fault_add(conf->faults, FAULT_TLS_EARLY, row_place(&listener->row, OPTION_LISTENER_TLS_EARLY),
            "listener \"" SPAN_FMT "\": %s", SPAN_ARG(listener->row.name), why);
  fault_note(conf->faults, "leave early_data out");
}

void check_keys_logged(struct conf *conf) {
  const struct conf_root *root = &conf->root;
  if (!root->log_tls_keys.len) return;
  fault_add(conf->faults, FAULT_KEYS_LOGGED, row_place(&root->row, OPTION_LOG_TLS_KEYS),
            "secrets of TLS connections can be logged to " SPAN_FMT, SPAN_ARG(root->log_tls_keys));
  fault_note(conf->faults, "for debugging only; in force with weir run --log-tls-keys");
}

/* ---- the bytes ---- */

#define TICKET_KEY_SHORT 48u /* name, AES-128, HMAC: 16 bytes each */
#define TICKET_KEY_LONG 80u  /* name of 16 bytes, HMAC of 32, AES-256 */
#define TICKET_NAME_BYTES 16u

/* is_flat: all bytes are one: a file of zeros is no key. */
static bool is_flat(struct span bytes) {
  for (size_t i = 1; i < bytes.len; i++)
    if (bytes.ptr[i] != bytes.ptr[0]) return false;
  return true;
}

/* key_note: what is there is perhaps another thing, which no command must write over. */
static void key_note(struct conf_faults *faults, struct span bytes) {
  bool pem = span_starts(bytes, SPAN_LIT("-----"));
  fault_note(faults, "%smake one in a new file: openssl rand -out new-ticket.key 80",
             pem ? "it is no ticket key but PEM; " : "");
}

bool ticket_key_check(struct conf_faults *faults, struct place at, struct span what,
                      struct span bytes) {
  bool sized = bytes.len == TICKET_KEY_SHORT || bytes.len == TICKET_KEY_LONG;
  if (sized && !is_flat(bytes)) return true;
  if (sized)
    fault_add(faults, FAULT_TICKET_KEY, at, "ticket key " SPAN_FMT ": all of its bytes are one",
              SPAN_ARG(what));
  else
    fault_add(faults, FAULT_TICKET_KEY, at,
              "ticket key " SPAN_FMT ": it has %zu bytes, not 48 or 80", SPAN_ARG(what),
              bytes.len);
  key_note(faults, bytes);
  return false;
}

/* same_name: a ticket says by its first 16 bytes which key it is of. */
static bool same_name(struct span a, struct span b) {
  return a.len >= TICKET_NAME_BYTES && b.len >= TICKET_NAME_BYTES &&
         span_eq(span_sub(a, 0, TICKET_NAME_BYTES), span_sub(b, 0, TICKET_NAME_BYTES));
}

void ticket_keys_check(struct conf_faults *faults, const struct conf_item *items, uint32_t count,
                       const struct span *bytes) {
  for (uint32_t i = 1; i < count; i++)
    for (uint32_t k = 0; k < i; k++) {
      if (!same_name(bytes[i], bytes[k])) continue;
      bool whole = span_eq(bytes[i], bytes[k]);
      fault_add(faults, FAULT_TICKET_KEY_TWICE, items[i].at,
                "ticket keys " SPAN_FMT " and " SPAN_FMT " %s", SPAN_ARG(items[k].text),
                SPAN_ARG(items[i].text),
                whole ? "are the same" : "have the same first 16 bytes, which is a key's name");
      fault_other(faults, "first", items[k].at);
      break;
    }
}
