/* metrics_names.c: metrics of the names that pools ask the DNS for: outcomes, and for each name
 * how it stands. Does not: collect (facts.c). Called by metrics.c. */
#include "control/metrics_priv.h"

#include "weir/base/mem.h"

struct name_row {
  const char *name, *help;
};
enum name_column { NAME_OK, NAME_ADDRESSES, NAME_AGE, NAME_NEXT, NAME_COLUMNS };

static const struct name_row name_rows[NAME_COLUMNS] = {
    [NAME_OK] = {"weir_resolver_name_ok", "1 if the name was resolved when it was last asked for"},
    [NAME_ADDRESSES] = {"weir_resolver_name_addresses",
                        "Addresses of the name (SRV: records) that are in use"},
    [NAME_AGE] = {"weir_resolver_name_age_seconds", "Since the answer that is in use came"},
    [NAME_NEXT] = {"weir_resolver_name_next_seconds", "Until the name is asked for again"},
};

static bool same_labels(const struct resolver_view *a, const struct resolver_view *b) {
  return a->srv == b->srv && span_eq(a->name, b->name) && span_eq(a->servers, b->servers);
}

/* again tells whether a name stood before, asked for with other times: labels may not stand twice.
 */
static bool again(const struct metrics_input *in, uint32_t i) {
  for (uint32_t k = 0; k < i; k++) {
    if (same_labels(&in->names[k], &in->names[i])) {
      return true;
    }
  }
  return false;
}

static void write_value(struct text *out, const struct resolver_view *n, enum name_column column) {
  unsigned long long ms = column == NAME_AGE ? n->age_ms : n->next_ms;
  switch (column) {
    case NAME_OK: text_printf(out, " %d\n", n->has_answer && n->failing == RESOLVE_OK); return;
    case NAME_ADDRESSES: text_printf(out, " %u\n", n->addresses); return;
    case NAME_AGE:
    case NAME_NEXT:
    case NAME_COLUMNS: text_printf(out, " %llu.%03llu\n", ms / 1000, ms % 1000); return;
  }
}

static void write_name(struct text *out, const struct resolver_view *n, enum name_column column) {
  text_printf(out, "%s{", name_rows[column].name);
  metrics_label(out, "dns_name", n->name);
  metrics_label(out, "type", n->srv ? SPAN_LIT("srv") : SPAN_LIT("address"));
  metrics_label(out, "servers", n->servers.len ? n->servers : SPAN_LIT("system"));
  out->len--; /* the last comma */
  text_lit(out, "}");
  write_value(out, n, column);
}

void metrics_names(struct text *out, const struct metrics_input *in) {
  metrics_head(out, SPAN_LIT("weir_resolver_resolutions_total"), "counter",
               "Names asked for by how it ended");
  for (int i = 0; i < RESOLVE_COUNT; i++) {
    text_printf(out, "weir_resolver_resolutions_total{outcome=\"%s\"} %llu\n",
                resolve_label((enum resolve_result)i), (unsigned long long)in->resolutions[i]);
  }
  for (int column = 0; column < NAME_COLUMNS; column++) {
    metrics_head(out, span_str(name_rows[column].name), "gauge", name_rows[column].help);
    for (uint32_t i = 0; i < in->name_count; i++) {
      const struct resolver_view *n = &in->names[i];
      bool told = column != NAME_AGE || n->has_answer;
      if (told && !again(in, i)) {
        write_name(out, n, (enum name_column)column);
      }
    }
  }
}
