/* conf_priv.h: what the files of config/ share: sources and places, the parsed tree, faults as
 * they are raised. The option table is options_priv.h, the typed rows are rows_priv.h. */
#ifndef WEIR_CONFIG_CONF_PRIV_H
#define WEIR_CONFIG_CONF_PRIV_H

#include "weir/base/arena.h"
#include "weir/base/mem.h"
#include "weir/config/config.h"

/* ---- where something stands ---- */

/* source is one text. It lives as long as its conf. */
struct source {
  struct source *next;
  struct span path; /* as opened, for messages */
  struct span text;
  struct node *root; /* parsed; a group */
};

/* place is bytes [offset, offset+len) of a source. src NULL: nowhere (a default). */
struct place {
  const struct source *src;
  uint32_t offset, len;
  uint32_t line; /* from 1 */
};

/* place_column counts from 1, in characters (UTF-8 code points; a tab is one). */
uint32_t place_column(const struct place *at);
/* place_short writes "weir.conf:30": the file's base name and line. */
void place_short(const struct place *at, struct buf *out);

/* ---- the tree ---- */

enum node_kind { NODE_GROUP, NODE_ARRAY, NODE_LIST, NODE_STRING, NODE_INT, NODE_BOOL };

/* node is one setting, or one element of a list. Made by parse.c, checked against libconfig. */
struct node {
  struct node *parent, *next, *first, *last;
  enum node_kind kind;
  bool is_long;        /* NODE_INT with suffix L */
  bool suspect;        /* its bracket was not closed: keys in it may belong elsewhere */
  bool boolean;        /* NODE_BOOL */
  uint32_t count;      /* children */
  int64_t integer;     /* NODE_INT */
  struct span key;     /* empty in lists and arrays */
  struct span string;  /* NODE_STRING: escapes resolved, ${env:} not */
  struct place key_at; /* the key; in lists the element */
  struct place at;     /* the value; of groups and lists the opening bracket */
};

const char *node_kind_text(enum node_kind kind);
struct node *node_find(const struct node *group, struct span key);

#define TREE_DEPTH_MAX 32u

/* parse_source builds src->root in arena and reports every fault; true when there was none. The
 * tree is usable in any case: what was broken is left out. */
bool parse_source(struct source *src, struct arena *arena, struct conf_faults *faults);

/* read_source lets libconfig read the text (only after parse_source found no fault); NULL and
 * *line when it refuses. Places are not set. */
struct node *read_source(const struct source *src, struct arena *arena, uint32_t *line);
/* tree_same compares two trees by keys, kinds and values; *where is the first node of a that
 * differs. */
bool tree_same(const struct node *a, const struct node *b, const struct node **where);

/* ---- faults ---- */

enum fault_id {
#define FAULT(id, code, level, doc) FAULT_##id,
#include "weir/config/faults.def"
#undef FAULT
  FAULT_COUNT
};

enum fault_level { FAULT_LEVEL_ERROR, FAULT_LEVEL_WARNING };

/* fault_row is one row of faults.def. */
struct fault_row {
  const char *code;
  enum fault_level level;
  const char *doc;
};
const struct fault_row *fault_get(enum fault_id id);

/* fault_add reports; the texts are copied. It becomes the newest fault, which the calls below
 * complete. */
void fault_add(struct conf_faults *f, enum fault_id id, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* fault_add_file reports a fault of a whole file that has no text. */
void fault_add_file(struct conf_faults *f, enum fault_id id, struct span path, const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));
/* fault_note sets the words after the carets. */
void fault_note(struct conf_faults *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* fault_other names a second place: `word` is "first", "defined", "opened". Appended to the note.
 * */
void fault_other(struct conf_faults *f, const char *word, struct place at);
/* fault_redact shows only the marked place of the newest fault's line: the rest may be secret. */
void fault_redact(struct conf_faults *f);
/* fault_total counts errors and warnings, kept or not. */
uint32_t fault_total(const struct conf_faults *f);
/* faults_has tells whether a fault of this kind was reported (kept or not). */
bool faults_has(const struct conf_faults *f, enum fault_id id);

/* faults_has_syntax: was any text broken (W00xx)? Then what is missing may only look so. */
bool faults_has_syntax(const struct conf_faults *f);

/* fault_view is one fault as tests and the JSON form see it; borrowed. */
struct fault_view {
  enum fault_id id;
  struct span message, path, note, excerpt;
  uint32_t line, column, length; /* 0: the whole file */
  struct span other_path;
  uint32_t other_line, other_column;
};
/* faults_view gives fault i in print order (file, place); false at the end. */
bool faults_view(const struct conf_faults *f, uint32_t i, struct fault_view *out);

/* ---- "did you mean" ---- */

/* suggest collects the nearest of the words that are offered. */
struct suggest {
  struct span word, best;
  struct place best_at;
  uint32_t distance;
};
struct suggest suggest_for(struct span word);
void suggest_offer(struct suggest *s, struct span candidate, const struct place *at);
/* suggest_note adds `did you mean "x" (defined at f:1)?` to the newest fault if one was near. */
void suggest_note(const struct suggest *s, struct conf_faults *f);
/* edit_distance: insertions, deletions, substitutions and swaps of neighbours, ASCII case ignored;
 * words longer than 64 bytes are as far as it gets. */
uint32_t edit_distance(struct span a, struct span b);

/* errno_text is what strerror says, safe in any thread. */
const char *errno_text(int error);
/* span_last is the index of the last c, or SIZE_MAX. */
size_t span_last(struct span s, char c);
/* path_join gives path itself when absolute, else path in the directory of `beside`. In arena. */
struct span path_join(struct arena *arena, struct span beside, struct span path);
/* arena_get is arena_zalloc of an arena without limit. */
void *arena_get(struct arena *arena, size_t size);
/* arena_str copies s with a NUL behind it. */
const char *arena_str(struct arena *arena, struct span s);

#endif
