/* values_priv.h: the values of options: parsed from nodes, printed, and the units and words that
 * they are written with. */
#ifndef WEIR_CONFIG_VALUES_PRIV_H
#define WEIR_CONFIG_VALUES_PRIV_H

#include "options_priv.h"
#include "units_priv.h"
#include "weir/config/tls_policy.h"
#include "weir/model/template.h"

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
/* value_default reads the option's default (must be good); false: it has none. value_default_item
 * is element i of a list's; false: it has no more. */
bool value_default(const struct option *option, struct arena *arena, struct value *out);
bool value_default_item(const struct option *option, uint32_t i, struct arena *arena,
                        struct value *out);
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
/* foreign_named notes to the newest fault what weir has in place of a variable of nginx; false: no
 * such name is known. foreign_look warns of one, "$name", at `at` of a template's text. */
bool foreign_named(struct value_job *job, struct span name);
void foreign_look(struct value_job *job, size_t at);
/* text_quote prints a string literal; "${" becomes "$${". */
void text_quote(struct span s, struct text *out);
/* option_quote is text_quote of an option's text: a template's variables stay. */
void option_quote(const struct option *option, struct span s, struct text *out);
/* option_is_template: its text holds ${variables} and "$${" for a literal "${" (template.h). */
bool option_is_template(const struct option *option);
/* node_part is the place of bytes [from, from+len) of a string's value, if the literal has no
 * escapes; else the whole literal. */
struct place node_part(const struct node *node, size_t from, size_t len);


/* conf_dict prints the dictionary of fuzz_config. */
void conf_dict(struct text *out);
/* value_note adds to the last fault what to write for text, which stands without quotes as the
 * value of key. */
void value_note(struct span key, struct span text, struct conf_faults *f);
/* value_bad_word reports a word that the option does not know; false. */
bool value_bad_word(struct value_job *job);
/* name_is_good: letters, digits, _ . -, first a letter or digit, at most 64. */
bool name_is_good(struct span s);
/* value_refuse reports that the option cannot have this text, and why; false. */
bool value_refuse(struct value_job *job, enum fault_id id, const char *why);
/* value_path makes a path canonical, what a listener may keep kept; false: it is none. */
MUST_USE bool value_path(struct value_job *job, struct span *path);
/* value_protocol: does HTTP know this one? False after it reported a fault. */
bool value_protocol(struct value_job *job);
/* edit_value and edit_name check the texts of field edits (values_edit.c). */
bool edit_value(struct value_job *job);
bool edit_name(struct value_job *job);
/* statuses_parse reads "503" or "5xx", from 400 to 599. */
MUST_USE bool statuses_parse(struct span text, uint16_t *from, uint16_t *to);
/* origin_value makes an origin what a browser writes (values_origin.c). */
bool origin_value(struct value_job *job);
/* edit_split cuts a good "Name: value". */
void edit_split(struct span text, struct span *name, struct span *value);
/* text types (values_text.c): true and *out, or a fault. */
MUST_USE bool text_value_parse(struct value_job *job, struct value *out);

/* discover_text checks the texts of pools.*.discover (values_discover.c). */
bool discover_text(struct value_job *job);
/* tls_text checks the texts of pools.*.tls (values_tls.c); pin_parse reads a good "sha256:...". */
bool tls_text(struct value_job *job);
void pin_parse(struct span text, uint8_t out[CONF_PIN_BYTES]);
/* health_text checks the texts of pools.*.health (values_health.c). */
bool health_text(struct value_job *job);
/* health_statuses_parse reads a good "200-299"; health_field_split cuts a good "Name: value". */
MUST_USE bool health_statuses_parse(struct span text, struct health_statuses *out);
void health_field_split(struct span text, struct span *name, struct span *value);

#endif
