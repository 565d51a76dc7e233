/* hello_trace.h: ClientHellos for tests: made from a small language, cut into records, and what is
 * made of them as text, the same however they are cut. Used by test_client_hello.c and
 * fuzz_client_hello.c. */
#ifndef WEIR_TESTS_HELLO_TRACE_H
#define WEIR_TESTS_HELLO_TRACE_H

#include "weir/base/buf.h"
#include "weir/http/client_hello.h"

enum { HELLO_WIRE_MAX = 4 * CLIENT_HELLO_MAX };

/* hello_make appends what text says: hex digits are bytes, 'text' is itself, *N:hh is N bytes hh,
 * <N and > stand around what a length of N bytes is put before; blanks mean nothing. */
static inline void hello_make(struct buf *out, const char *text) {
  struct {
    size_t at, len;
  } open[16];
  size_t depth = 0;
  for (const char *p = text; *p; p++) {
    if (*p == ' ') continue;
    if (*p == '<') {
      check(depth < array_count(open));
      open[depth].at = out->len;
      open[depth].len = (size_t)(*++p - '0');
      for (size_t i = 0; i < open[depth].len; i++) buf_char(out, 0);
      depth++;
    } else if (*p == '>') {
      check(depth > 0 && !out->full);
      size_t at = open[--depth].at, len = open[depth].len, value = out->len - at - len;
      for (size_t i = 0; i < len; i++) out->ptr[at + len - 1 - i] = (char)(value >> 8 * i);
    } else if (*p == '\'') {
      while (*++p != '\'') buf_char(out, *p);
    } else if (*p == '*') {
      size_t count = 0;
      while (*++p != ':') count = count * 10 + (size_t)(*p - '0');
      for (size_t i = 0; i < count; i++)
        buf_char(out, (char)(ascii_hex(p[1]) << 4 | ascii_hex(p[2])));
      p += 2;
    } else {
      check(ascii_hex(p[0]) >= 0 && ascii_hex(p[1]) >= 0);
      buf_char(out, (char)(ascii_hex(p[0]) << 4 | ascii_hex(p[1])));
      p++;
    }
  }
  check(depth == 0 && !out->full);
}

/* hello_records appends message in records of at most `most` bytes each. */
static inline void hello_records(struct buf *out, struct span message, size_t most) {
  for (size_t at = 0; at < message.len; at += most) {
    struct span part = span_sub(message, at, most);
    buf_put(out, SPAN_LIT("\x16\x03\x03"));
    buf_char(out, (char)(part.len >> 8));
    buf_char(out, (char)part.len);
    buf_put(out, part);
  }
}

/* hello_trace_of is a hello as text. */
static inline void hello_trace_of(struct text *t, const struct client_hello *h) {
  struct span rest = h->alpn, name;
  check(h->random.len == 32 && h->session_id.len <= CLIENT_HELLO_SESSION_ID_MAX);
  check(h->ciphers.len >= 2 && h->version_max >= h->version_min);
  text_printf(t, "%04x-%04x sid%zu ciphers%zu ext%u", h->version_min, h->version_max,
              h->session_id.len, h->ciphers.len / 2, h->extension_count);
  if (h->host.len) text_printf(t, " " SPAN_FMT, SPAN_ARG(h->host));
  check(!h->host_bad || !h->host.len);
  if (h->host_bad) text_lit(t, " no-host");
  for (const char *before = " alpn="; client_hello_alpn(&rest, &name); before = ",") {
    check(client_hello_offers(h, name));
    text_printf(t, "%s" SPAN_FMT, before, SPAN_ARG(name));
  }
  check(rest.len == 0);
  if (h->ech) text_lit(t, " ech");
  if (h->grease) text_lit(t, " grease");
  if (h->psk) text_lit(t, " psk");
  if (h->early_data) text_lit(t, " early");
}

/* hello_trace_read gives the first `had` bytes, then `step` more at a time; the text is the
 * caller's to free: the hello, "!" and a word, or "more". *used is where a hello ends. */
static inline enum http_result hello_trace_read(struct span in, size_t had, size_t step,
                                                struct text *t, size_t *used) {
  struct hello_scan scan = {.at = 0};
  struct client_hello h;
  struct arena arena;
  enum http_result result = HTTP_MORE;
  enum hello_fault why = HELLO_FAULT_NONE;
  arena_init(&arena, NULL, 0);
  for (bool last = false; result == HTTP_MORE && !last; had += step) {
    if (had >= in.len) had = in.len;
    last = had == in.len;
    result = client_hello_peek(&scan, span_sub(in, 0, had), &arena, &h, &why);
    check((result == HTTP_BAD) == (why != HELLO_FAULT_NONE) && scan.at <= had);
    check(result != HTTP_MORE || arena.total == 0);
  }
  if (result == HTTP_MORE) text_lit(t, "more");
  if (result == HTTP_DONE) hello_trace_of(t, &h);
  if (result == HTTP_BAD) {
    check(hello_fault_text(why).len > 0);
    text_printf(t, "!" SPAN_FMT, SPAN_ARG(hello_fault_word(why)));
  }
  *used = result == HTTP_DONE ? scan.at : 0;
  arena_reset(&arena);
  return result;
}

#endif
