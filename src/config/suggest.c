/* suggest.c: "did you mean": the nearest known word by edit distance (optimal string alignment).
 * Called when a key, a word or a name is not known. Small helpers of config/ stand here too. */
#include "conf_priv.h"

#define WORD_MAX 64u

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t m = a < b ? a : b;
  return m < c ? m : c;
}

uint32_t edit_distance(struct span a, struct span b) {
  if (a.len > WORD_MAX || b.len > WORD_MAX) return UINT32_MAX;
  uint32_t rows[3][WORD_MAX + 1]; /* i-2, i-1, i by turns */
  for (uint32_t j = 0; j <= b.len; j++) rows[0][j] = j;
  for (uint32_t i = 1; i <= a.len; i++) {
    uint32_t *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
    row[0] = i;
    for (uint32_t j = 1; j <= b.len; j++) {
      char x = ascii_lower(a.ptr[i - 1]), y = ascii_lower(b.ptr[j - 1]);
      row[j] = min3(up[j] + 1, row[j - 1] + 1, up[j - 1] + (x == y ? 0 : 1));
      bool swap =
          i > 1 && j > 1 && x == ascii_lower(b.ptr[j - 2]) && ascii_lower(a.ptr[i - 2]) == y;
      if (swap && up2[j - 2] + 1 < row[j]) row[j] = up2[j - 2] + 1;
    }
  }
  return rows[a.len % 3][b.len];
}

/* A third of the letters may be wrong; of short words one. */
struct suggest suggest_for(struct span word) {
  uint32_t limit = word.len < 6 ? 1 : (uint32_t)(word.len / 3);
  return (struct suggest){.word = word, .distance = limit + 1};
}

static const struct {
  struct span word, ours;
} foreign[] = {
#define FOREIGN(word, ours) {SPAN_LIT(word), SPAN_LIT(ours)},
#include "foreign.def"
#undef FOREIGN
};

struct span foreign_word(struct span word) {
  for (size_t i = 0; i < array_count(foreign); i++)
    if (span_eq(foreign[i].word, word)) return foreign[i].ours;
  return SPAN_EMPTY;
}

/* begins: the word is the first part of a longer one ("hedge" of "hedge_after"). */
static bool begins(struct span word, struct span candidate) {
  return candidate.len > word.len && span_starts(candidate, word) &&
         candidate.ptr[word.len] == '_';
}

void suggest_offer(struct suggest *s, struct span candidate, const struct place *at) {
  uint32_t distance = begins(s->word, candidate) ? 1 : edit_distance(s->word, candidate);
  if (distance == s->distance && s->best.len) s->tied = true;
  if (distance >= s->distance) return;
  s->tied = false;
  s->distance = distance;
  s->best = candidate;
  s->best_at = at ? *at : (struct place){0};
}

void suggest_note(const struct suggest *s, struct conf_faults *f) {
  if (!s->best.len) return;
  fault_note(f, "did you mean \"" SPAN_FMT "\"?", SPAN_ARG(s->best));
  if (s->best_at.src) fault_other(f, "defined", s->best_at);
}

void *arena_get(struct arena *arena, size_t size) {
  void *ptr = arena_zalloc(arena, size);
  check(ptr != NULL); /* arenas of config/ have no limit */
  return ptr;
}

const char *arena_str(struct arena *arena, struct span s) {
  char *copy = arena_bytes(arena, s.len + 1);
  check(copy != NULL);
  if (s.len) memcpy(copy, s.ptr, s.len);
  copy[s.len] = '\0';
  return copy;
}

const char *errno_text(int error) {
  const char *text = strerrordesc_np(error);
  return text ? text : "unknown error";
}

size_t span_last(struct span s, char c) {
  for (size_t i = s.len; i > 0; i--)
    if (s.ptr[i - 1] == c) return i - 1;
  return SIZE_MAX;
}

struct span path_join(struct arena *arena, struct span beside, struct span path) {
  if (span_starts(path, SPAN_LIT("/"))) return path;
  size_t slash = span_last(beside, '/');
  if (slash == SIZE_MAX) return path;
  struct span dir = span_sub(beside, 0, slash + 1);
  return arena_printf(arena, SPAN_FMT SPAN_FMT, SPAN_ARG(dir), SPAN_ARG(path));
}

struct node *node_find(const struct node *group, struct span key) {
  for (struct node *n = group ? group->first : NULL; n; n = n->next)
    if (span_eq(n->key, key)) return n;
  return NULL;
}

const char *node_kind_text(enum node_kind kind) {
  switch (kind) {
    case NODE_GROUP: return "a group { }";
    case NODE_ARRAY: return "an array [ ]";
    case NODE_LIST: return "a list ( )";
    case NODE_STRING: return "a string";
    case NODE_INT: return "a number";
    case NODE_BOOL: return "true or false";
  }
  return "nothing";
}
