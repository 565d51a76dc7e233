/* options_priv.h: the option table as data, and the types of its values. */
#ifndef WEIR_CONFIG_OPTIONS_PRIV_H
#define WEIR_CONFIG_OPTIONS_PRIV_H

#include "rows_priv.h"

enum option_flag {
  OPTION_REQUIRED = 1,
  OPTION_LIST = 2,
  OPTION_RESTART = 4,
  OPTION_OFF = 8,
  OPTION_GROUPED = 16
};

/* Rows of option_types in values.c. */
enum option_type {
  TYPE_COUNT,
  TYPE_COUNT_AUTO,
  TYPE_DURATION,
  TYPE_SIZE,
  TYPE_PERCENT,
  TYPE_PPM,
  TYPE_BOOL,
  TYPE_ENUM,
  TYPE_BALANCE,
  TYPE_REDIRECT_STATUS,
  TYPE_TEXT,
  TYPE_NAME,
  TYPE_GLOB,
  TYPE_OUTPUT,
  TYPE_ADMIN,
  TYPE_STATUS,
  TYPE_BIND,
  TYPE_UPSTREAM,
  TYPE_PROTOCOL,
  TYPE_NET,
  TYPE_HOST,
  TYPE_PATH,
  TYPE_METHOD,
  TYPE_URL,
  TYPE_FIELD,
  TYPE_BODY,
  TYPE_SECRET,
  TYPE_POOL_REF,
  TYPE_LISTENER_REF,
  TYPE_HASH_KEY,
  TYPE_COOKIE_NAME,
  TYPE_COOKIE_PATH,
  TYPE_MAP,  /* group of groups, by name */
  TYPE_ROWS, /* list of groups (endpoints: or strings) */
  TYPE_COUNT_OF
};

struct option {
  enum option_id id;
  enum scope_id scope;
  const char *path;
  enum option_type type;
  int64_t min, max;
  const char *words, *def, *example;
  uint16_t offset, size; /* of the member */
  uint32_t flags;
  const char *doc;
};

struct scope {
  const char *path; /* "listeners.*" */
  size_t size;
  uint32_t first, count; /* its options */
};

const struct option *option_get(enum option_id id);
const struct scope *scope_get(enum scope_id id);
/* option_local is the path within the scope: "timeouts.header". */
struct span option_local(const struct option *option);
/* option_child is the scope of a MAP's or ROWS' elements. */
enum scope_id option_child(const struct option *option);
/* option_find gives the option of a local path, or NULL; *group tells whether the path is a group
 * that holds options. */
const struct option *option_find(enum scope_id scope, struct span local, bool *group);
/* option_later tells whether a full path is planned. */
bool option_later(enum scope_id scope, struct span local);
/* later_get gives planned path i, or NULL at the end. */
const char *later_get(uint32_t i);

/* value is one parsed scalar. */
struct value {
  uint64_t number;  /* counts, ms, bytes, percent, ppm, bool, index of a word */
  struct span text; /* everything else; in the arena */
};

/* value_job is a value to be parsed. node may be a default's, with no place. */
struct value_job {
  struct arena *arena;
  struct conf_faults *faults;
  const struct conf_reader *reader; /* for ${env:} */
  const struct option *option;
  const struct node *node;
  struct span text; /* of strings: after ${env:} */
  struct span env;  /* variable that was used, empty: none */
};

/* value_parse reads one scalar; false after it reported a fault. */
MUST_USE bool value_parse(struct value_job *job, struct value *out);
/* value_default reads the option's default (must be good); false: it has none. */
bool value_default(const struct option *option, struct arena *arena, struct value *out);
/* value_store and value_load move a scalar between value and member. */
void value_store(const struct option *option, void *member, const struct value *value);
struct value value_load(const struct option *option, const void *member);
/* value_write prints a scalar as the file has it, quotes and escapes included. */
void value_write(const struct option *option, const struct value *value, struct text *out);
/* value_is_text tells strings (and secrets) from numbers. */
bool value_is_text(const struct option *option);
/* type_name is how documents call it: "duration". */
const char *type_name(enum option_type type);
/* option_write_range appends "1ms to 1h" or the words; nothing when there is no range. */
void option_write_range(const struct option *option, struct text *out);

/* expand_env resolves ${env:} in job->node->string into job->text. */
MUST_USE bool expand_env(struct value_job *job);
/* text_quote prints a string literal; "${" becomes "$${". */
void text_quote(struct span s, struct text *out);
/* node_part is the place of bytes [from, from+len) of a string's value, if the literal has no
 * escapes; else the whole literal. */
struct place node_part(const struct node *node, size_t from, size_t len);

/* unit tables, shared with values_text.c */
MUST_USE bool duration_parse(struct span text, uint64_t *ms);
MUST_USE bool size_parse(struct span text, uint64_t *bytes);
/* percent_parse reads "12.5%" in millionths. */
MUST_USE bool percent_parse(struct span text, uint64_t *ppm);
void duration_write(uint64_t ms, struct text *out);
void size_write(uint64_t bytes, struct text *out);
void percent_write(uint64_t ppm, struct text *out);
/* word_find gives the index of a word in a list separated by spaces, or -1. word_at the reverse.
 * */
int word_find(const char *words, struct span word);
struct span word_at(const char *words, uint32_t index);

/* conf_dict prints the dictionary of fuzz_config. */
void conf_dict(struct text *out);
/* value_bad_word reports a word that the option does not know; false. */
bool value_bad_word(struct value_job *job);
/* name_is_good: letters, digits, _ . -, first a letter or digit, at most 64. */
bool name_is_good(struct span s);
/* text types (values_text.c): true and *out, or a fault. */
MUST_USE bool text_value_parse(struct value_job *job, struct value *out);

#endif
