/* view_write.c: the tables of view.c as a page (no external assets; works without script, live
 * with it), as text, as JSON. Every cell is escaped for where it stands. */
#include "control/view_priv.h"

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{font:14px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1.5rem}"
    "h1{font-size:1.4rem;margin:0 0 .2rem}h2{font-size:1rem;margin:1.6rem 0 .4rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #8884;"
    "vertical-align:top;overflow-wrap:anywhere}"
    "th{font-weight:600;opacity:.7}.n{text-align:right;font-variant-numeric:tabular-nums}"
    "dl{display:flex;flex-wrap:wrap;gap:.3rem 2rem;margin:.6rem 0}dt{opacity:.7;font-size:.8rem}"
    "dd{margin:0;font-variant-numeric:tabular-nums}footer{margin-top:2rem;opacity:.7}";

/* Live: the page asks for itself and takes over the part that changes. */
static const char script[] =
    "setInterval(async()=>{if(document.hidden)return;try{"
    "const r=await fetch(location.pathname,{cache:'no-store'});"
    "const d=new DOMParser().parseFromString(await r.text(),'text/html');"
    "document.querySelector('main').replaceWith(d.querySelector('main'));"
    "document.getElementById('live').textContent='live'"
    "}catch(e){document.getElementById('live').textContent='no answer'}},2000)";

static void html(struct text *out, struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    switch (s.ptr[i]) {
      case '&':
        text_lit(out, "&amp;");
        break;
      case '<':
        text_lit(out, "&lt;");
        break;
      case '>':
        text_lit(out, "&gt;");
        break;
      case '"':
        text_lit(out, "&quot;");
        break;
      default:
        text_put(out, span_sub(s, i, 1));
    }
  }
}

static struct span cell(const struct view_table *t, uint32_t row, uint32_t column) {
  return t->cells[row * t->column_count + column];
}

static void page_facts(struct text *out, const struct view_table *t) {
  text_lit(out, "<dl>");
  for (uint32_t r = 0; r < t->row_count; r++) {
    text_lit(out, "<div><dt>");
    html(out, cell(t, r, 0));
    text_lit(out, "</dt><dd>");
    html(out, cell(t, r, 1));
    text_lit(out, "</dd></div>");
  }
  text_lit(out, "</dl>\n");
}

static void page_row(struct text *out, const struct view_table *t, uint32_t r) {
  text_lit(out, "<tr>");
  for (uint32_t c = 0; c < t->column_count; c++) {
    text_put(out, t->columns[c].number ? SPAN_LIT("<td class=\"n\">") : SPAN_LIT("<td>"));
    html(out, cell(t, r, c));
    text_lit(out, "</td>");
  }
  text_lit(out, "</tr>\n");
}

static void page_table(struct text *out, const struct view_table *t) {
  if (!t->row_count) {
    return;
  }
  text_printf(out, "<h2>%s</h2>\n<table><thead><tr>", t->title);
  for (uint32_t c = 0; c < t->column_count; c++) {
    text_printf(out, "<th%s>", t->columns[c].number ? " class=\"n\"" : "");
    html(out, span_str(t->columns[c].title));
    text_lit(out, "</th>");
  }
  text_lit(out, "</tr></thead><tbody>\n");
  for (uint32_t r = 0; r < t->row_count; r++) {
    page_row(out, t, r);
  }
  text_lit(out, "</tbody></table>\n");
  if (t->left_out) {
    text_printf(out, "<p>%u more are in <a href=\"/metrics\">/metrics</a>.</p>\n", t->left_out);
  }
}

void view_write_page(struct text *out, const struct view *v, struct span nonce) {
  text_lit(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<meta name=\"viewport\" content=\"width=device-width\"><title>weir</title>");
  text_printf(out, "<style nonce=\"" SPAN_FMT "\">%s</style></head><body>\n", SPAN_ARG(nonce),
              style);
  text_lit(out, "<main>\n<h1>weir</h1>\n");
  page_facts(out, &v->tables[0]);
  for (uint32_t i = 1; i < VIEW_TABLES; i++) {
    page_table(out, &v->tables[i]);
  }
  text_lit(out, "</main>\n<footer><a href=\"/metrics\">/metrics</a> "
                "<a href=\"/-/ready\">/-/ready</a> <a href=\"/-/live\">/-/live</a> "
                "<a href=\"/-/status\">/-/status</a> <span id=\"live\"></span></footer>\n");
  text_printf(out, "<script nonce=\"" SPAN_FMT "\">%s</script></body></html>\n", SPAN_ARG(nonce),
              script);
}

/* ---- JSON ---- */

static void json_string(struct text *out, struct span s) {
  text_lit(out, "\"");
  text_json(out, s);
  text_lit(out, "\"");
}

static void json_cell(struct text *out, const struct view_column *column, struct span s) {
  json_string(out, span_str(column->key));
  text_lit(out, ":");
  if (!column->number) {
    json_string(out, s);
  } else {
    text_put(out, s.len ? s : SPAN_LIT("null"));
  }
}

static void json_row(struct text *out, const struct view_table *t, uint32_t r) {
  text_lit(out, "{");
  for (uint32_t c = 0; c < t->column_count; c++) {
    text_put(out, c ? SPAN_LIT(",") : SPAN_EMPTY);
    json_cell(out, &t->columns[c], cell(t, r, c));
  }
  text_lit(out, "}");
}

static bool all_digits(struct span s) {
  uint64_t ignored;
  return span_u64(s, &ignored);
}

/* The process's facts are one object. */
static void json_facts(struct text *out, const struct view_table *t) {
  text_lit(out, "{");
  for (uint32_t r = 0; r < t->row_count; r++) {
    text_put(out, r ? SPAN_LIT(",") : SPAN_EMPTY);
    json_string(out, cell(t, r, 0));
    text_lit(out, ":");
    if (all_digits(cell(t, r, 1))) {
      text_put(out, cell(t, r, 1));
    } else {
      json_string(out, cell(t, r, 1));
    }
  }
  text_lit(out, "}");
}

void view_write_json(struct text *out, const struct view *v) {
  text_lit(out, "{\"process\":");
  json_facts(out, &v->tables[0]);
  for (uint32_t i = 1; i < VIEW_TABLES; i++) {
    const struct view_table *t = &v->tables[i];
    text_printf(out, ",\"%s\":[", t->key);
    for (uint32_t r = 0; r < t->row_count; r++) {
      text_put(out, r ? SPAN_LIT(",") : SPAN_EMPTY);
      json_row(out, t, r);
    }
    text_lit(out, "]");
  }
  text_lit(out, "}\n");
}

/* ---- text ---- */

static int width(const struct view_table *t, uint32_t c) {
  size_t most = strlen(t->columns[c].title);
  for (uint32_t r = 0; r < t->row_count; r++) {
    size_t len = cell(t, r, c).len;
    most = len > most ? len : most;
  }
  return (int)most;
}

/* A terminal gets no control byte from a name. */
static void plain(struct text *out, struct span s, int pad, bool right) {
  int fill = pad > (int)s.len ? pad - (int)s.len : 0;
  if (right) {
    text_printf(out, "%*s", fill, "");
  }
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    text_put(out, c < 0x20 || c == 0x7f ? SPAN_LIT("?") : span_sub(s, i, 1));
  }
  if (!right) {
    text_printf(out, "%*s", fill, "");
  }
}

static void text_row(struct text *out, const struct view_table *t, const int *widths, int row) {
  for (uint32_t c = 0; c < t->column_count; c++) {
    text_put(out, c ? SPAN_LIT("  ") : SPAN_EMPTY);
    struct span s = row < 0 ? span_str(t->columns[c].title) : cell(t, (uint32_t)row, c);
    plain(out, s, c + 1 < t->column_count || t->columns[c].number ? widths[c] : 0,
          t->columns[c].number);
  }
  text_lit(out, "\n");
}

static void text_table(struct text *out, const struct view_table *t) {
  int widths[VIEW_COLUMNS_MAX];
  if (!t->row_count) {
    return;
  }
  for (uint32_t c = 0; c < t->column_count; c++) {
    widths[c] = width(t, c);
  }
  text_lit(out, "\n");
  for (int r = -1; r < (int)t->row_count; r++) {
    text_row(out, t, widths, r);
  }
}

void view_write_text(struct text *out, const struct view *v) {
  const struct view_table *facts = &v->tables[0];
  for (uint32_t r = 0; r < facts->row_count; r++) {
    plain(out, cell(facts, r, 0), 17, false);
    plain(out, cell(facts, r, 1), 0, false);
    text_lit(out, "\n");
  }
  for (uint32_t i = 1; i < VIEW_TABLES; i++) {
    text_table(out, &v->tables[i]);
  }
}
