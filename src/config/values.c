/* values.c: one scalar of the file to a typed value and back: kind, unit, range, words. Texts that
 * have a form of their own (addresses, hosts, paths) are values_text.c. Called by load.c for
 * values and defaults, by dump.c and reference.c to print. */
#include "values_priv.h"

/* shape is what kind of scalar a type is written as. */
enum shape {
  SHAPE_INT,
  SHAPE_BOOL,
  SHAPE_STRING,
  SHAPE_INT_OR_WORD,
  SHAPE_BOOL_OR_WORD,
  SHAPE_GROUPS
};

struct type_row {
  const char *name;
  enum shape shape;
  bool number;      /* stored as a number */
  const char *like; /* for "wrong type" */
};

#define TIME_LIKE "a time with its unit (ms s m h d): \"30s\""
#define SIZE_LIKE "a size with its unit (B KiB MiB GiB TiB PiB): \"64KiB\""

static const struct type_row types[TYPE_COUNT_OF] = {
    [TYPE_COUNT] = {"count", SHAPE_INT, true, "a whole number: 100"},
    [TYPE_COUNT_AUTO] = {"count", SHAPE_INT_OR_WORD, true, "a whole number, or \"auto\""},
    [TYPE_DURATION] = {"duration", SHAPE_STRING, true, TIME_LIKE},
    [TYPE_SIZE] = {"size", SHAPE_STRING, true, SIZE_LIKE},
    [TYPE_SIZE_OFF] = {"size", SHAPE_STRING, true, SIZE_LIKE ", or \"off\""},
    [TYPE_PERCENT] = {"percent", SHAPE_STRING, true, "a percentage: \"50%\""},
    [TYPE_PPM] = {"percent", SHAPE_STRING, true, "a percentage: \"50%\""},
    [TYPE_FACTOR] = {"factor", SHAPE_STRING, true, "a number in quotes: \"1.9\""},
    [TYPE_BOOL] = {"bool", SHAPE_BOOL, true, "true or false"},
    [TYPE_BOOL_WORD] = {"bool", SHAPE_BOOL_OR_WORD, true, "true, false or a string"},
    [TYPE_ENUM] = {"word", SHAPE_STRING, true, "a string"},
    [TYPE_BALANCE] = {"word", SHAPE_STRING, true, "a string"},
    [TYPE_REDIRECT_STATUS] = {"status", SHAPE_INT, true, "a status: 308"},
    [TYPE_TEXT] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_NAME] = {"name", SHAPE_STRING, false, "a string"},
    [TYPE_GLOB] = {"pattern", SHAPE_STRING, false, "a string: \"weir.d/*.conf\""},
    [TYPE_OUTPUT] = {"output", SHAPE_STRING, false, "a string: \"stderr\""},
    [TYPE_ADMIN] = {"address", SHAPE_STRING, false, "a string: \"unix:/run/weir/admin.sock\""},
    [TYPE_STATUS] = {"address", SHAPE_STRING, false, "a string: \"127.0.0.1:9180\""},
    [TYPE_BIND] = {"address", SHAPE_STRING, false, "a string: \"0.0.0.0:80\""},
    [TYPE_UPSTREAM] = {"address", SHAPE_STRING, false, "a string: \"10.0.0.11:8080\""},
    [TYPE_PROTOCOL] = {"word", SHAPE_STRING, false, "a string: \"h2\" or \"http/1.1\""},
    [TYPE_NET] = {"network", SHAPE_STRING, false, "a string: \"10.0.0.0/8\""},
    [TYPE_HOST] = {"host", SHAPE_STRING, false, "a string: \"example.com\""},
    [TYPE_PATH] = {"path", SHAPE_STRING, false, "a string: \"/api\""},
    [TYPE_REGEX] = {"regex", SHAPE_STRING, false, "a string: \"^/item/[0-9]+$\""},
    [TYPE_MATCH_NAME] = {"field name", SHAPE_STRING, false, "a string: \"X-Env\""},
    [TYPE_COOKIE_NAME] = {"cookie name", SHAPE_STRING, false, "a string: \"session\""},
    [TYPE_PLAIN] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_VALUE] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_METHOD] = {"method", SHAPE_STRING, false, "a string: \"GET\""},
    [TYPE_URL] = {"url", SHAPE_STRING, false, "a string: \"https://example.com/\""},
    [TYPE_FIELD] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_RETRY_ON] = {"word", SHAPE_STRING, false, "a string: \"connect\" or \"503\""},
    [TYPE_WORD] = {"word", SHAPE_STRING, false, "a string"},
    [TYPE_BODY] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_FILE] = {"file", SHAPE_STRING, false, "a string: \"pages/error.html\""},
    [TYPE_AUTHORITY] = {"host", SHAPE_STRING, false, "a string: \"example.com\""},
    [TYPE_STATUSES] = {"status", SHAPE_STRING, false, "a string: \"503\" or \"5xx\""},
    [TYPE_ORIGIN] = {"origin", SHAPE_STRING, false, "a string: \"https://app.example.com\""},
    [TYPE_FIELD_NAME] = {"name", SHAPE_STRING, false, "a string: the name of a field"},
    [TYPE_NAME_PORT] = {"name", SHAPE_STRING, false, "a string: \"users.internal:8080\""},
    [TYPE_SRV_NAME] = {"name", SHAPE_STRING, false, "a string: \"_http._tcp.users.internal\""},
    [TYPE_DNS_SERVER] = {"address", SHAPE_STRING, false, "a string: \"127.0.0.1:53\""},
    [TYPE_HEALTH_PATH] = {"path", SHAPE_STRING, false, "a string: \"/healthz\""},
    [TYPE_HEALTH_HOST] = {"host", SHAPE_STRING, false, "a string: \"app.internal\""},
    [TYPE_HEALTH_FIELD] = {"field", SHAPE_STRING, false, "a string: \"Name: value\""},
    [TYPE_HEALTH_BODY] = {"text", SHAPE_STRING, false, "a string"},
    [TYPE_HEALTH_SERVICE] = {"name", SHAPE_STRING, false, "a string: \"shop.Cart\""},
    [TYPE_HEALTH_STATUSES] = {"statuses", SHAPE_STRING, false, "a string: \"200-299\""},
    [TYPE_RATE] = {"rate", SHAPE_STRING, false, "a string: \"100/s\""},
    [TYPE_RATE_KEY] = {"key", SHAPE_STRING, false, "a string: \"client_ip\""},
    [TYPE_SECRET] = {"secret", SHAPE_STRING, false, "a string: \"file:tls/example.key\""},
    [TYPE_TLS_NAME] = {"name", SHAPE_STRING, false, "a string: \"app.internal\""},
    [TYPE_TLS_PIN] = {"pin", SHAPE_STRING, false, "a string: \"sha256:...\""},
    [TYPE_TLS_GROUP] = {"group", SHAPE_STRING, false, "a string: \"X25519\""},
    [TYPE_TLS_CIPHER] = {"cipher suite", SHAPE_STRING, false, "a string: the name of a suite"},
    [TYPE_CERT_SAN] = {"san", SHAPE_STRING, false, "a string: \"dns:app.internal\""},
    [TYPE_POOL_REF] = {"pool", SHAPE_STRING, false, "a string: the name of a pool"},
    [TYPE_LISTENER_REF] = {"listener", SHAPE_STRING, false, "a string: the name of a listener"},
    [TYPE_HASH_KEY] = {"hash key", SHAPE_STRING, false, "a string: \"cookie:user\""},
    [TYPE_COOKIE_PATH] = {"path", SHAPE_STRING, false, "a string: \"/\""},
    [TYPE_POLICY_REF] = {"policy", SHAPE_STRING, false, "a string: the name of a policy"},
    [TYPE_REWRITE_TO] = {"path", SHAPE_STRING, false, "a string: \"/items/${1}\""},
    [TYPE_EDIT] = {"field", SHAPE_STRING, false, "a string: \"Name: value\""},
    [TYPE_EDIT_NAME] = {"name", SHAPE_STRING, false, "a string: the name of a field"},
    [TYPE_MAP] = {"groups", SHAPE_GROUPS, false, "a group { } of groups by name"},
    [TYPE_ROWS] = {"list", SHAPE_GROUPS, false, "a list ( ) of groups { }"},
};

const char *type_name(enum option_type type) { return types[type].name; }
bool value_is_text(const struct option *option) { return !types[option->type].number; }
bool option_is_template(const struct option *option) {
  return option->type == TYPE_EDIT || option->type == TYPE_REWRITE_TO;
}

/* ---- faults ---- */

static bool wrong_type(struct value_job *job) {
  fault_add(job->faults, FAULT_WRONG_TYPE, job->node->at, "%s takes %s, not %s", job->option->path,
            types[job->option->type].like, node_kind_text(job->node->kind));
  if (job->node->kind == NODE_INT && job->option->type == TYPE_DURATION)
    fault_note(job->faults, "write \"%llds\" or \"%lldms\"", (long long)job->node->integer,
               (long long)job->node->integer);
  if (job->option->type == TYPE_ENUM && job->option->words)
    fault_note(job->faults, "known: " SPAN_FMT,
               SPAN_ARG(span_trim(span_str(job->option->words))));
  return false;
}

static bool bad_unit(struct value_job *job, enum fault_id id, const char *what) {
  fault_add(job->faults, id, job->node->at, "%s: \"" SPAN_FMT "\" is no %s", job->option->path,
            SPAN_ARG(job->text), what);
  fault_note(job->faults, "%s", types[job->option->type].like);
  return false;
}

static bool out_of_range(struct value_job *job) {
  struct text range = {0};
  option_write_range(job->option, &range);
  fault_add(job->faults, FAULT_OUT_OF_RANGE, job->node->at, "%s is out of range",
            job->option->path);
  fault_note(job->faults, SPAN_FMT, SPAN_ARG(text_span(&range)));
  text_fini(&range);
  return false;
}

bool value_bad_word(struct value_job *job) {
  const char *words = job->option->words;
  fault_add(job->faults, FAULT_BAD_WORD, job->node->at, "%s does not know \"" SPAN_FMT "\"",
            job->option->path, SPAN_ARG(job->text));
  struct suggest s = suggest_for(job->text);
  struct span rest = span_str(words), word;
  while (span_next_token(&rest, ' ', &word))
    if (word.len) suggest_offer(&s, word, NULL);
  fault_note(job->faults, "known: " SPAN_FMT, SPAN_ARG(span_trim(span_str(words))));
  struct span ours = foreign_word(job->text);
  if (ours.len && word_find(words, ours) >= 0) s = (struct suggest){.best = ours};
  if (!s.tied) suggest_note(&s, job->faults); /* in its place */
  return false;
}

/* string_good: text in quotes would be a value of the type. */
static bool string_good(enum option_type type, struct span text) {
  uint64_t n = 0;
  switch ((int)type) { /* the types with a unit, and those that are no strings */
    case TYPE_DURATION: return duration_parse(text, &n);
    case TYPE_SIZE:
    case TYPE_SIZE_OFF: return size_parse(text, &n);
    case TYPE_PERCENT:
    case TYPE_PPM: return percent_parse(text, &n);
    case TYPE_FACTOR: return factor_parse(text, &n);
    case TYPE_COUNT:
    case TYPE_REDIRECT_STATUS:
    case TYPE_BOOL:
    case TYPE_BOOL_WORD: return false;
    case TYPE_COUNT_AUTO: return span_eq(text, SPAN_LIT("auto"));
    default: return true;
  }
}

void value_note(struct span key, struct span text, struct conf_faults *f) {
  enum option_type type = option_key_type(key);
  bool known = type != TYPE_COUNT_OF;
  if (known && !string_good(type, text))
    fault_note(f, "write %s", types[type].like);
  else
    fault_note(f, "write \"" SPAN_FMT "\"", SPAN_ARG(text));
}

/* ---- parsing ---- */

static bool in_range(const struct option *o, uint64_t n) {
  if (o->min == 0 && o->max == 0) return true;
  return n >= (uint64_t)o->min && n <= (uint64_t)o->max;
}

static bool ranged(struct value_job *job, uint64_t n, struct value *out) {
  if (!in_range(job->option, n)) return out_of_range(job);
  out->number = n;
  return true;
}

/* count takes a number; a string only when a variable stood in it. */
static bool count_parse(struct value_job *job, struct value *out) {
  const struct node *node = job->node;
  uint64_t n = 0;
  if (node->kind == NODE_STRING) {
    bool word = job->option->words && word_find(job->option->words, job->text) >= 0;
    if (word) {
      out->number = 0;
      return true;
    }
    if (!job->env.len) return wrong_type(job);
    if (!span_u64(job->text, &n)) return bad_unit(job, FAULT_WRONG_TYPE, "whole number");
    return ranged(job, n, out);
  }
  if (node->integer < 0) return out_of_range(job);
  return ranged(job, (uint64_t)node->integer, out);
}

static bool bool_parse(struct value_job *job, struct value *out) {
  if (job->node->kind == NODE_BOOL) {
    out->number = job->node->boolean;
    return true;
  }
  bool is_true = span_eq(job->text, SPAN_LIT("true"));
  if (!job->env.len) return wrong_type(job);
  if (!is_true && !span_eq(job->text, SPAN_LIT("false")))
    return bad_unit(job, FAULT_WRONG_TYPE, "true or false");
  out->number = is_true;
  return true;
}

static bool duration(struct value_job *job, struct value *out) {
  uint64_t ms = 0;
  if (!duration_parse(job->text, &ms)) return bad_unit(job, FAULT_BAD_DURATION, "time");
  return ranged(job, ms, out);
}

static bool size(struct value_job *job, struct value *out) {
  uint64_t bytes = 0;
  if (job->option->words && word_find(job->option->words, job->text) == 0) {
    out->number = 0;
    return true;
  }
  if (!size_parse(job->text, &bytes)) return bad_unit(job, FAULT_BAD_SIZE, "size");
  return ranged(job, bytes, out);
}

static bool percent(struct value_job *job, struct value *out) {
  uint64_t ppm = 0;
  bool whole = job->option->type == TYPE_PERCENT;
  if (!percent_parse(job->text, &ppm) || (whole && ppm % 10000))
    return bad_unit(job, FAULT_BAD_PERCENT, whole ? "whole percentage" : "percentage");
  return ranged(job, whole ? ppm / 10000 : ppm, out);
}

static bool factor(struct value_job *job, struct value *out) {
  uint64_t permille = 0;
  if (!factor_parse(job->text, &permille)) return bad_unit(job, FAULT_BAD_FACTOR, "number");
  return ranged(job, permille, out);
}

static bool word(struct value_job *job, struct value *out) {
  int index = word_find(job->option->words, job->text);
  if (index < 0) return value_bad_word(job);
  out->number = (uint64_t)index;
  return true;
}

/* bool_or_word: true in quotes is the word, which is the same. */
static bool bool_or_word(struct value_job *job, struct value *out) {
  if (job->node->kind != NODE_BOOL) return word(job, out);
  out->number = job->node->boolean;
  return true;
}

static bool redirect_status(struct value_job *job, struct value *out) {
  if (!count_parse(job, out)) return false;
  if (out->number >= 301 && out->number <= 308 && out->number != 304 && out->number != 305 &&
      out->number != 306)
    return true;
  fault_add(job->faults, FAULT_BAD_STATUS, job->node->at, "%llu is no redirect",
            (unsigned long long)out->number);
  fault_note(job->faults, "301, 302, 303, 307 or 308");
  return false;
}

/* kind_fits: could this node be a value of the type at all? Strings with a variable may stand for
 * numbers. */
static bool kind_fits(const struct value_job *job) {
  enum node_kind kind = job->node->kind;
  switch (types[job->option->type].shape) {
    case SHAPE_INT: return kind == NODE_INT || kind == NODE_STRING;
    case SHAPE_BOOL: return kind == NODE_BOOL || kind == NODE_STRING;
    case SHAPE_STRING: return kind == NODE_STRING;
    case SHAPE_INT_OR_WORD: return kind == NODE_INT || kind == NODE_STRING;
    case SHAPE_BOOL_OR_WORD: return kind == NODE_BOOL || kind == NODE_STRING;
    case SHAPE_GROUPS: return false;
  }
  return false;
}

bool value_parse(struct value_job *job, struct value *out) {
  if (!kind_fits(job)) return wrong_type(job);
  bool secret = job->option->type == TYPE_SECRET;
  bool expands = job->node->kind == NODE_STRING &&
                 (!secret || span_starts(job->node->string, SPAN_LIT("file:")));
  job->text = job->node->string;
  if (expands && !expand_env(job)) return false;
  if (value_is_text(job->option)) return text_value_parse(job, out);
  switch ((int)job->option->type) { /* numbers only; the table above tells which */
    case TYPE_COUNT:
    case TYPE_COUNT_AUTO: return count_parse(job, out);
    case TYPE_DURATION: return duration(job, out);
    case TYPE_SIZE:
    case TYPE_SIZE_OFF: return size(job, out);
    case TYPE_PERCENT:
    case TYPE_PPM: return percent(job, out);
    case TYPE_FACTOR: return factor(job, out);
    case TYPE_BOOL: return bool_parse(job, out);
    case TYPE_BOOL_WORD: return bool_or_word(job, out);
    case TYPE_REDIRECT_STATUS: return redirect_status(job, out);
    default: return word(job, out);
  }
}

/* default_parse reads what options.def says, which must be good. */
static void default_parse(const struct option *option, struct span text, struct arena *arena,
                          struct value *out) {
  uint64_t number = 0;
  struct node node = {.kind = NODE_STRING, .string = text};
  enum shape shape = types[option->type].shape;
  if (shape == SHAPE_BOOL) {
    node.kind = NODE_BOOL;
    node.boolean = span_eq(text, SPAN_LIT("true"));
  } else if (shape != SHAPE_STRING && span_u64(text, &number)) {
    node.kind = NODE_INT;
    node.integer = (int64_t)number;
  }
  static const struct conf_reader no_reader = {0};
  struct conf_faults *faults = conf_faults_new();
  struct value_job job = {
      .arena = arena, .faults = faults, .reader = &no_reader, .option = option, .node = &node};
  *out = (struct value){0};
  bool good = value_parse(&job, out);
  conf_faults_free(faults);
  check(good); /* a row of options.def has a bad default */
}

bool value_default(const struct option *option, struct arena *arena, struct value *out) {
  if (!option->def || (option->flags & OPTION_LIST)) return false;
  default_parse(option, span_str(option->def), arena, out);
  return true;
}

bool value_default_item(const struct option *option, uint32_t i, struct arena *arena,
                        struct value *out) {
  if (!option->def || !(option->flags & OPTION_LIST)) return false;
  struct span rest = span_str(option->def), text;
  while (span_next_token(&rest, ' ', &text)) {
    if (i--) continue;
    default_parse(option, text, arena, out);
    return true;
  }
  return false;
}

/* ---- members ---- */

void value_store(const struct option *option, void *member, const struct value *value) {
  if (value_is_text(option)) {
    check(option->size == sizeof value->text);
    memcpy(member, &value->text, sizeof value->text);
    return;
  }
  uint8_t n8 = (uint8_t)value->number;
  uint16_t n16 = (uint16_t)value->number;
  uint32_t n32 = (uint32_t)value->number;
  const void *from = option->size == 1   ? (const void *)&n8
                     : option->size == 2 ? (const void *)&n16
                     : option->size == 4 ? (const void *)&n32
                                         : (const void *)&value->number;
  check(option->size == 8 || value->number >> (8 * option->size) == 0);
  memcpy(member, from, option->size);
}

struct value value_load(const struct option *option, const void *member) {
  struct value value = {0};
  if (value_is_text(option)) {
    memcpy(&value.text, member, sizeof value.text);
    return value;
  }
  uint8_t n8 = 0;
  uint16_t n16 = 0;
  uint32_t n32 = 0;
  if (option->size == 1) memcpy(&n8, member, 1);
  if (option->size == 2) memcpy(&n16, member, 2);
  if (option->size == 4) memcpy(&n32, member, 4);
  if (option->size == 8) memcpy(&value.number, member, 8);
  value.number |= n8 | n16 | n32;
  return value;
}

/* ---- printing ---- */

static void number_write(const struct option *option, uint64_t n, struct text *out) {
  switch ((int)option->type) { /* the types with a unit; all others are plain numbers */
    case TYPE_DURATION: duration_write(n, out); return;
    case TYPE_SIZE: size_write(n, out); return;
    case TYPE_SIZE_OFF:
      if (n)
        size_write(n, out);
      else
        text_put(out, word_at(option->words, 0));
      return;
    case TYPE_PERCENT: percent_write(n * 10000, out); return;
    case TYPE_PPM: percent_write(n, out); return;
    case TYPE_FACTOR: factor_write(n, out); return;
    case TYPE_BOOL: text_put(out, n ? SPAN_LIT("true") : SPAN_LIT("false")); return;
    case TYPE_BOOL_WORD:
    case TYPE_ENUM:
    case TYPE_BALANCE: text_put(out, word_at(option->words, (uint32_t)n)); return;
    default: text_printf(out, "%llu", (unsigned long long)n); return;
  }
}

void value_write(const struct option *option, const struct value *value, struct text *out) {
  enum shape shape = types[option->type].shape;
  if (value_is_text(option)) {
    option_quote(option, value->text, out);
  } else if (shape == SHAPE_INT_OR_WORD && value->number == 0) {
    text_quote(word_at(option->words, 0), out);
  } else if (shape == SHAPE_STRING || (shape == SHAPE_BOOL_OR_WORD && value->number > 1)) {
    text_lit(out, "\"");
    number_write(option, value->number, out);
    text_lit(out, "\"");
  } else {
    number_write(option, value->number, out);
  }
}

void option_write_range(const struct option *option, struct text *out) {
  if (option->min || option->max) {
    number_write(option, (uint64_t)option->min, out);
    text_lit(out, " to ");
    number_write(option, (uint64_t)option->max, out);
    if (option->words) text_printf(out, ", or \"%s\"", option->words);
  } else if (option->words) {
    struct span rest = span_str(option->words), word;
    bool first = true;
    while (span_next_token(&rest, ' ', &word)) {
      if (!word.len) continue;
      text_printf(out, "%s" SPAN_FMT, first ? "" : ", ", SPAN_ARG(word));
      first = false;
    }
  }
}
