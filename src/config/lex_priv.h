/* lex_priv.h: tokens of libconfig's grammar, each with its place. */
#ifndef WEIR_CONFIG_LEX_PRIV_H
#define WEIR_CONFIG_LEX_PRIV_H

#include "conf_priv.h"

enum token_kind {
  TOKEN_END,
  TOKEN_BAD, /* reported already */
  TOKEN_NAME,
  TOKEN_STRING,
  TOKEN_INT,
  TOKEN_BOOL,
  TOKEN_ASSIGN,
  TOKEN_SEMICOLON,
  TOKEN_COMMA,
  TOKEN_OPEN_GROUP,
  TOKEN_CLOSE_GROUP,
  TOKEN_OPEN_ARRAY,
  TOKEN_CLOSE_ARRAY,
  TOKEN_OPEN_LIST,
  TOKEN_CLOSE_LIST,
};

struct token {
  enum token_kind kind;
  struct place at;
  bool bad;     /* a value that was reported: it stands here, but has no meaning */
  bool is_long; /* TOKEN_INT */
  bool boolean;
  int64_t integer;
  struct span string; /* TOKEN_STRING: resolved, in the arena */
};

/* lexer reads src from offset. A copy of it is a bookmark. */
struct lexer {
  const struct source *src;
  struct arena *arena;
  struct conf_faults *faults;
  uint32_t offset, line;
  struct span key;  /* whose value is read, for suggestions */
  uint32_t line_at; /* offset of the line's first byte */
};

/* lex_next gives the next token; faults are reported once and reading goes on behind them. */
void lex_next(struct lexer *lex, struct token *out);
/* token_text is the token as written. */
struct span token_text(const struct token *token);

#endif
