/* conf_priv.h: what the files of config/ share: faults as they are raised, suggestions, small
 * helpers. Sources and their trees are tree_priv.h, the option table is options_priv.h, the typed
 * rows are rows_priv.h. */
#ifndef WEIR_CONFIG_CONF_PRIV_H
#define WEIR_CONFIG_CONF_PRIV_H

#include "tree_priv.h"
#include "weir/base/mem.h"

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

/* faults_mark remembers how far the list is; faults_rewind forgets what came later. */
struct faults_mark {
  uint32_t count, errors, warnings, by_id[FAULT_COUNT];
};
void faults_mark(const struct conf_faults *f, struct faults_mark *mark);
void faults_rewind(struct conf_faults *f, const struct faults_mark *mark);

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
  bool tied; /* another one is as near */
};
struct suggest suggest_for(struct span word);
void suggest_offer(struct suggest *s, struct span candidate, const struct place *at);
/* foreign_word is what a word of other proxies is called here; empty: it is none (foreign.def). */
struct span foreign_word(struct span word);
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
