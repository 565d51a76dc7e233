/* compile_cors.c: a policy's cors rows to what is compared and sent. Called by compile_policy.c.
 */
#include "compile_priv.h"

static struct span joined(struct arena *arena, const struct conf_list *list) {
  struct text out = {0};
  for (uint32_t i = 0; i < list->count; i++)
    text_printf(&out, "%s" SPAN_FMT, i ? ", " : "", SPAN_ARG(list->items[i].text));
  struct span text = arena_copy(arena, text_span(&out), NULL);
  text_fini(&out);
  return text;
}

/* origin_of cuts at the star of a wildcard. */
static struct cors_origin origin_of(struct arena *arena, struct span text) {
  size_t star = span_find_char(text, '*', 0);
  struct span own = arena_copy(arena, text, NULL);
  if (star == SIZE_MAX) return (struct cors_origin){.head = own};
  return (struct cors_origin){.head = span_sub(own, 0, star), .tail = span_from(own, star + 1)};
}

const struct cors *cors_of(struct arena *arena, const struct conf_cors *row) {
  if (!row->origins.count) return NULL;
  struct cors *cors = arena_get(arena, sizeof *cors);
  struct cors_origin *origins = arena_get(arena, row->origins.count * sizeof *origins);
  for (uint32_t i = 0; i < row->origins.count; i++) {
    struct span text = row->origins.items[i].text;
    if (span_eq(text, SPAN_LIT("*")))
      cors->any = true;
    else
      origins[cors->origin_count++] = origin_of(arena, text);
  }
  cors->origins = origins;
  cors->credentials = row->credentials;
  cors->methods = joined(arena, &row->methods);
  cors->headers = joined(arena, &row->headers);
  cors->expose = joined(arena, &row->expose);
  cors->max_age = arena_printf(arena, "%u", row->max_age_ms / 1000);
  return cors;
}
