/* parse.c: the tree of one text, with every fault found in one pass: after a broken setting it
 * goes on behind the next `;`, at the next `key =` or at the closing bracket. No recursion: the
 * open groups are the parents of the current one. It does not know what keys mean (load.c does).
 * Grammar: setting = name ("=" | ":") value [";" | ","]; group { setting* }, array [ scalars ],
 * list ( values ), strings side by side are one.
 *
 * A bracket that is missing shows only at the end of the text, and is then the outermost by count.
 * So a text that ends too early is read again with its layout as a hint to where the bracket
 * should be. If that leads nowhere, what stands behind the open bracket is not judged.
 */
#include <stdio.h>

#include "lex_priv.h"
#include "values_priv.h"

struct parser {
  struct lexer lex;
  struct token tok;
  struct node *in; /* the group, array or list that is open */
  uint32_t depth;
  bool comma_due;        /* in a list: an element just ended */
  struct place comma_at; /* the comma before tok; src NULL: none */
  uint32_t key_indent;   /* of the line of the last key */
  bool mixed;            /* the open array was reported as mixed */
  bool by_layout;        /* lines and their indentation tell where brackets are missing */
  bool flat;             /* but they tell nothing: this text is not indented */
  uint32_t strays;       /* brackets that close nothing */
};

static void advance(struct parser *p) { lex_next(&p->lex, &p->tok); }

static struct span tok_shown(const struct parser *p) {
  return p->tok.kind == TOKEN_END ? SPAN_LIT("the end of the file")
                                  : span_sub(token_text(&p->tok), 0, 40);
}

static bool is_open(enum token_kind k) {
  return k == TOKEN_OPEN_GROUP || k == TOKEN_OPEN_ARRAY || k == TOKEN_OPEN_LIST;
}
static bool is_close(enum token_kind k) {
  return k == TOKEN_CLOSE_GROUP || k == TOKEN_CLOSE_ARRAY || k == TOKEN_CLOSE_LIST;
}

/* kind_of is what a bracket opens or closes. */
static enum node_kind kind_of(enum token_kind k) {
  if (k == TOKEN_OPEN_GROUP || k == TOKEN_CLOSE_GROUP) return NODE_GROUP;
  return k == TOKEN_OPEN_ARRAY || k == TOKEN_CLOSE_ARRAY ? NODE_ARRAY : NODE_LIST;
}

static const char *closer(enum node_kind kind) {
  return kind == NODE_GROUP ? "}" : kind == NODE_ARRAY ? "]" : ")";
}

/* setting_follows: is the current token a key with its `=`? */
static bool setting_follows(const struct parser *p) {
  if (p->tok.kind != TOKEN_NAME) return false;
  struct lexer ahead = p->lex;
  while (ahead.offset < ahead.src->text.len) {
    char c = ahead.src->text.ptr[ahead.offset];
    if (c == '=' || c == ':') return true;
    if (c != ' ' && c != '\t') return false;
    ahead.offset++;
  }
  return false;
}

/* ---- layout ---- */

/* indent is how many blanks the line of the current token begins with. */
static uint32_t indent(const struct parser *p) {
  struct span line = span_from(p->lex.src->text, p->lex.line_at);
  uint32_t blanks = 0;
  while (blanks < line.len && blanks < INDENT_MAX &&
         (line.ptr[blanks] == ' ' || line.ptr[blanks] == '\t'))
    blanks++;
  return blanks;
}

static bool first_on_line(const struct parser *p) {
  return p->lex.line_at + indent(p) == p->tok.at.offset;
}

/* ---- going on after a fault ---- */

/* recover skips at least one token, whole brackets at a time. In a group it ends behind `;` or
 * before a setting, in a list before a comma or `;`, in both before the closing bracket. */
static void recover(struct parser *p) {
  uint32_t nesting = 0;
  bool group = p->in->kind == NODE_GROUP;
  for (bool first = true; p->tok.kind != TOKEN_END; first = false) {
    enum token_kind kind = p->tok.kind;
    if (nesting == 0) {
      if (is_close(kind)) return;
      if (!group && !first && (kind == TOKEN_COMMA || kind == TOKEN_SEMICOLON)) break;
      if (!first && setting_follows(p)) break;
    }
    if (is_open(kind)) nesting++;
    if (is_close(kind)) nesting--;
    advance(p);
    if (group && nesting == 0 && kind == TOKEN_SEMICOLON) return;
  }
  p->comma_due = !group;
}

static void expected(struct parser *p, const char *what) {
  if (p->tok.kind != TOKEN_BAD)
    fault_add(p->lex.faults, FAULT_EXPECTED, p->tok.at, "%s is expected here, not " SPAN_FMT, what,
              SPAN_ARG(tok_shown(p)));
}

/* ---- building ---- */

static void link_node(struct node *in, struct node *n) {
  if (in->last)
    in->last->next = n;
  else
    in->first = n;
  in->last = n;
  in->count++;
}

/* key_fits reports a key that cannot be used: twice in its group, or of a bad form. */
static bool key_fits(struct parser *p, const struct token *key, struct span text) {
  const struct node *first = node_find(p->in, text);
  if (span_find_char(text, '*', 0) != SIZE_MAX || span_starts(text, SPAN_LIT("_"))) {
    fault_add(p->lex.faults, FAULT_BAD_KEY, key->at, "\"" SPAN_FMT "\" cannot be a key",
              SPAN_ARG(text));
    return false;
  }
  if (!first) return true;
  fault_add(p->lex.faults, FAULT_DUPLICATE_KEY, key->at, "\"" SPAN_FMT "\" stands here twice",
            SPAN_ARG(text));
  fault_other(p->lex.faults, "first", first->key_at);
  return false;
}

/* array_fits: an array takes simple values of one type. One fault for each array. */
static bool array_fits(struct parser *p, const struct node *n) {
  const struct node *first = p->in->first;
  bool simple = n->kind == NODE_STRING || n->kind == NODE_INT || n->kind == NODE_BOOL;
  bool alike = !first || (n->kind == first->kind && n->is_long == first->is_long);
  if (simple && alike) return true;
  if (p->mixed) return false;
  p->mixed = true;
  fault_add(p->lex.faults, FAULT_ARRAY_MIXED, n->at, "%s cannot stand in this array",
            node_kind_text(n->kind));
  fault_note(p->lex.faults, simple ? "one type in [ ]; ( ) holds anything" : "write ( ) for [ ]");
  fault_other(p->lex.faults, "opened", p->in->at);
  return false;
}

/* node_add makes the node of the current token. One that does not fit is not linked to the tree,
 * but what it holds is read like any other. */
static struct node *node_add(struct parser *p, const struct token *key, enum node_kind kind) {
  struct node *n = arena_get(p->lex.arena, sizeof *n);
  *n = (struct node){.parent = p->in, .kind = kind, .at = p->tok.at, .key_at = p->tok.at};
  n->is_long = p->tok.is_long;
  n->indent = key ? p->key_indent : indent(p);
  if (key) {
    n->key = token_text(key);
    n->key_at = key->at;
  }
  bool fits = key ? key_fits(p, key, n->key) : p->in->kind != NODE_ARRAY || array_fits(p, n);
  if (fits) link_node(p->in, n);
  return n;
}

static void after_value(struct parser *p) {
  p->comma_due = p->in->kind != NODE_GROUP;
  p->comma_at = (struct place){0};
  if (p->comma_due) return;
  if (p->tok.kind == TOKEN_SEMICOLON || p->tok.kind == TOKEN_COMMA) advance(p);
}

static void open_node(struct parser *p, const struct token *key) {
  if (p->depth == TREE_DEPTH_MAX) {
    fault_add(p->lex.faults, FAULT_DEPTH, p->tok.at, "nested deeper than %u", TREE_DEPTH_MAX);
    recover(p);
    return;
  }
  struct node *n = node_add(p, key, kind_of(p->tok.kind));
  p->in = n;
  p->depth++;
  p->mixed = false;
  p->comma_due = false;
  p->comma_at = (struct place){0};
  advance(p);
}

static void pop(struct parser *p) {
  p->in = p->in->parent;
  p->depth--;
  p->mixed = false;
  p->comma_due = p->in->kind != NODE_GROUP;
  p->comma_at = (struct place){0};
}

/* string_value joins strings that stand side by side. */
static void string_value(struct parser *p, struct node *n) {
  n->string = p->tok.string;
  for (advance(p); p->tok.kind == TOKEN_STRING; advance(p)) {
    n->string = arena_printf(p->lex.arena, SPAN_FMT SPAN_FMT, SPAN_ARG(n->string),
                             SPAN_ARG(p->tok.string));
    n->at.len = p->tok.at.offset + p->tok.at.len - n->at.offset;
  }
}

static void scalar(struct parser *p, const struct token *key) {
  enum token_kind kind = p->tok.kind;
  if (p->tok.bad) { /* reported: the setting is left out */
    while (p->tok.kind == kind) advance(p);
    after_value(p);
    return;
  }
  struct node *n = node_add(p, key,
                            kind == TOKEN_STRING ? NODE_STRING
                            : kind == TOKEN_INT  ? NODE_INT
                                                 : NODE_BOOL);
  n->integer = p->tok.integer;
  n->boolean = p->tok.boolean;
  if (kind == TOKEN_STRING)
    string_value(p, n);
  else
    advance(p);
  after_value(p);
}

static void bare_word(struct parser *p) {
  struct span text = token_text(&p->tok);
  fault_add(p->lex.faults, FAULT_BARE_WORD, p->tok.at,
            SPAN_FMT " is no value; a string needs quotes", SPAN_ARG(text));
  value_note(p->lex.key, text, p->lex.faults);
  advance(p);
  if (p->tok.kind == TOKEN_SEMICOLON || p->tok.kind == TOKEN_COMMA || is_close(p->tok.kind) ||
      setting_follows(p))
    after_value(p);
  else
    recover(p);
}

static void value(struct parser *p, const struct token *key) {
  switch (p->tok.kind) {
    case TOKEN_STRING:
    case TOKEN_INT:
    case TOKEN_BOOL: scalar(p, key); return;
    case TOKEN_OPEN_GROUP:
    case TOKEN_OPEN_ARRAY:
    case TOKEN_OPEN_LIST: open_node(p, key); return;
    case TOKEN_NAME: bare_word(p); return;
    case TOKEN_END:
    case TOKEN_BAD:
    case TOKEN_ASSIGN:
    case TOKEN_SEMICOLON:
    case TOKEN_COMMA:
    case TOKEN_CLOSE_GROUP:
    case TOKEN_CLOSE_ARRAY:
    case TOKEN_CLOSE_LIST: break;
  }
  expected(p, "a value");
  recover(p);
}

/* ---- brackets ---- */

/* not_closed reports the open bracket where the other should stand; what stands in it, or around
 * it, may belong elsewhere. */
static void not_closed(struct parser *p) {
  struct span before = tok_shown(p);
  fault_add(p->lex.faults, FAULT_NESTING, p->tok.at, "%s is not closed before " SPAN_FMT,
            node_kind_text(p->in->kind), SPAN_ARG(before));
  fault_note(p->lex.faults, "%s is missing", closer(p->in->kind));
  fault_other(p->lex.faults, "opened", p->in->at);
  for (struct node *n = p->in; n; n = n->parent) n->suspect = true;
}

/* left_open reports the open bracket at itself: where the other should stand is only guessed. */
static void left_open(struct parser *p) {
  struct span before = tok_shown(p);
  char line[32] = "";
  if (p->tok.kind != TOKEN_END) (void)snprintf(line, sizeof line, " in line %u", p->tok.at.line);
  fault_add(p->lex.faults, FAULT_NESTING, p->in->at, "%s is not closed before " SPAN_FMT "%s",
            node_kind_text(p->in->kind), SPAN_ARG(before), line);
  fault_note(p->lex.faults, "%s is missing", closer(p->in->kind));
}

static void closes_nothing(struct parser *p) {
  p->strays++;
  fault_add(p->lex.faults, FAULT_NESTING, p->tok.at, SPAN_FMT " closes nothing",
            SPAN_ARG(tok_shown(p)));
  if (p->in->parent) {
    fault_note(p->lex.faults, "%s would close what is open", closer(p->in->kind));
    fault_other(p->lex.faults, "opened", p->in->at);
  }
  advance(p);
  if (p->tok.kind == TOKEN_SEMICOLON || p->tok.kind == TOKEN_COMMA) advance(p);
}

/* close_inner: the bracket stands first on a line, further left than the line that opened what is
 * open, and level with one that opened its kind: all between them were forgotten. */
static void close_inner(struct parser *p, enum node_kind kind) {
  if (!first_on_line(p)) return;
  uint32_t here = indent(p);
  struct node *level = p->in;
  while (level->parent && (level->kind != kind || level->indent != here)) level = level->parent;
  if (!level->parent) return;
  while (p->in != level && here < p->in->indent) {
    left_open(p);
    pop(p);
  }
}

/* close_outdented: a key stands first on a line, no further right than the line that opened the
 * bracket around it: that one was forgotten. */
static void close_outdented(struct parser *p) {
  if (!first_on_line(p) || !setting_follows(p)) return;
  uint32_t here = indent(p);
  while (p->in->parent && p->in->key_at.line != p->tok.at.line && here <= p->in->indent) {
    p->flat |= p->in->count == 0;
    left_open(p);
    pop(p);
  }
}

static void close_bracket(struct parser *p) {
  enum node_kind kind = kind_of(p->tok.kind);
  if (p->by_layout) close_inner(p, kind);
  struct node *match = p->in;
  while (match && (match->kind != kind || !match->parent)) match = match->parent;
  if (!match && kind != NODE_GROUP && p->in->kind != NODE_GROUP) match = p->in; /* ] for ) */
  if (!match) {
    closes_nothing(p);
    return;
  }
  if (p->in != match || match->kind != kind) not_closed(p);
  while (p->in != match) pop(p);
  pop(p);
  advance(p);
  after_value(p);
}

/* leave_list: a `;` or a setting where a list should go on: its bracket was forgotten. */
static void leave_list(struct parser *p) {
  not_closed(p);
  while (p->in->kind != NODE_GROUP) pop(p);
  after_value(p);
}

/* element_follows: in a group of a list the next group begins, perhaps behind its comma. */
static bool element_follows(const struct parser *p) {
  if (!p->in->parent || p->in->parent->kind != NODE_LIST) return false;
  struct span rest = span_from(p->lex.src->text, p->lex.offset);
  while (rest.len && strchr(" \t\r\n", rest.ptr[0])) rest = span_from(rest, 1);
  return p->tok.kind == TOKEN_OPEN_GROUP ||
         (p->tok.kind == TOKEN_COMMA && span_starts(rest, SPAN_LIT("{")));
}

static void leave_element(struct parser *p) {
  not_closed(p);
  pop(p);
  p->comma_due = p->tok.kind == TOKEN_COMMA;
}

/* ---- steps ---- */

static void step_setting(struct parser *p) {
  struct token key = p->tok;
  struct span text = token_text(&key);
  p->key_indent = indent(p);
  p->lex.key = text;
  advance(p);
  if (p->tok.kind == TOKEN_ASSIGN) {
    advance(p);
    value(p, &key);
    return;
  }
  bool reported = p->tok.kind == TOKEN_BAD;
  expected(p, "=");
  if (!reported) fault_note(p->lex.faults, "after the key \"" SPAN_FMT "\"", SPAN_ARG(text));
  if (!is_close(p->tok.kind) && !setting_follows(p)) recover(p);
}

static void step_group(struct parser *p) {
  if (p->tok.kind == TOKEN_NAME) {
    step_setting(p);
  } else if (element_follows(p)) {
    leave_element(p);
  } else if (p->tok.kind == TOKEN_SEMICOLON && p->by_layout) {
    advance(p); /* of the bracket that is missing */
  } else if (is_close(p->tok.kind)) {
    close_bracket(p);
  } else {
    bool string = p->tok.kind == TOKEN_STRING, number = p->tok.kind == TOKEN_INT;
    if (!(number && p->tok.bad)) expected(p, "a key");
    if (string) fault_note(p->lex.faults, "keys stand without quotes");
    if (p->tok.kind == TOKEN_SEMICOLON || p->tok.kind == TOKEN_COMMA)
      advance(p);
    else
      recover(p);
  }
}

static void step_list(struct parser *p) {
  if (p->tok.kind == TOKEN_SEMICOLON || setting_follows(p)) {
    leave_list(p);
  } else if (is_close(p->tok.kind)) {
    if (p->comma_at.src)
      fault_add(p->lex.faults, FAULT_TRAILING_COMMA, p->comma_at, "no element follows this comma");
    close_bracket(p);
  } else if (!p->comma_due) {
    value(p, NULL);
  } else if (p->tok.kind == TOKEN_COMMA) {
    p->comma_due = false;
    p->comma_at = p->tok.at;
    advance(p);
  } else {
    expected(p, p->in->kind == NODE_ARRAY ? "a comma or ]" : "a comma or )");
    recover(p);
  }
}

static void parse(struct parser *p, struct source *src) {
  p->in = src->root = arena_get(p->lex.arena, sizeof *src->root);
  src->root->kind = NODE_GROUP;
  src->root->at = (struct place){.src = src, .len = 0, .line = 1};
  /* Each step takes at least one token or leaves a bracket, so this ends with the text. */
  for (advance(p); p->tok.kind != TOKEN_END;) {
    if (p->by_layout) close_outdented(p);
    if (p->in->kind == NODE_GROUP)
      step_group(p);
    else
      step_list(p);
  }
}

/* parse_again reads a text that ended too early by its layout; *p keeps the first reading. When
 * the layout makes it worse, all is as it was before. */
static void parse_again(struct parser *p, const struct parser *fresh,
                        const struct faults_mark *mark, struct source *src) {
  struct parser second = *fresh;
  second.by_layout = true;
  faults_rewind(fresh->lex.faults, mark);
  parse(&second, src);
  if (!second.flat && second.strays <= p->strays && second.depth <= p->depth) {
    *p = second;
    return;
  }
  faults_rewind(fresh->lex.faults, mark);
  *p = *fresh;
  parse(p, src);
}

bool parse_source(struct source *src, struct arena *arena, struct conf_faults *faults) {
  uint32_t errors = conf_faults_errors(faults);
  struct faults_mark mark;
  const struct parser fresh = {.lex = {.src = src, .arena = arena, .faults = faults, .line = 1}};
  struct parser p = fresh;
  check(src->text.len <= CONF_FILE_MAX);
  faults_mark(faults, &mark);
  parse(&p, src);
  if (p.in != src->root) parse_again(&p, &fresh, &mark, src);
  if (p.in != src->root) {
    left_open(&p);
    src->doubt_from = p.in->at.offset + 1;
  }
  return conf_faults_errors(faults) == errors;
}
