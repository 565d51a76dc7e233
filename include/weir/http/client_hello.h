/* client_hello.h: what a TLS ClientHello says, read without answering it: for passing TLS on by
 * its names (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2). Bytes in, a struct out; no TLS
 * library, no sockets. What cannot be read in full is refused, never guessed at (THREATS.md row
 * 16). */
#ifndef WEIR_HTTP_CLIENT_HELLO_H
#define WEIR_HTTP_CLIENT_HELLO_H

#include "weir/base/arena.h"
#include "weir/http/message.h"

#define CLIENT_HELLO_MAX 16384u /* bytes on the wire, heads of records included */
#define CLIENT_HELLO_HEAD 4u    /* of the message: its type and its length */
#define CLIENT_HELLO_EXTENSIONS_MAX 128u
#define CLIENT_HELLO_SESSION_ID_MAX 32u

enum hello_fault {
  HELLO_FAULT_NONE,
#define FAULT(id, word, text) HELLO_FAULT_##id,
#include "weir/http/client_hello_fault.def"
#undef FAULT
  HELLO_FAULT_COUNT
};
/* hello_fault_word is for logs, hello_fault_text for people. */
struct span hello_fault_word(enum hello_fault fault);
struct span hello_fault_text(enum hello_fault fault);

/* client_hello is one hello. Spans point into what was read or into the arena. */
struct client_hello {
  struct span host; /* of server_name, canonical (uri.h); empty: none was sent, or host_bad */
  struct span alpn;       /* the list as it came: a length byte before each name; empty: none */
  struct span session_id; /* legacy_session_id, 0 to 32 bytes */
  struct span random;     /* 32 bytes */
  struct span ciphers;    /* two bytes each */
  uint16_t version_max;   /* the newest one offered: 0x0304 is TLS 1.3 */
  uint16_t version_min;   /* the oldest one offered; 0: not said (no supported_versions) */
  uint16_t extension_count;
  bool ech;    /* an outer hello of Encrypted Client Hello: host is not the one that is meant */
  bool grease; /* values that mean nothing were among those offered (RFC 8701) */
  bool psk;    /* pre_shared_key: it resumes; the extension is the last one */
  bool early_data; /* what follows the hello may be early data */
  bool host_bad;   /* server_name has an address, or what is no host name: as good as none */
};

/* hello_scan is how far the bytes of a connection were looked at. */
struct hello_scan {
  uint32_t at;   /* the head of the next record, or what is next in its fragment */
  uint32_t left; /* of that fragment */
  uint32_t have; /* bytes of the message so far */
  uint32_t want; /* bytes of the message, its head included; 0: not known yet */
  uint32_t records;
  char head[CLIENT_HELLO_HEAD]; /* of the message */
};

/* client_hello_peek looks for the hello that in, all bytes of the connection so far, begins with;
 * scan is zeroed before the first call, and each call's in begins with that of the one before.
 * DONE: *out, which nothing but scan, in and arena has to outlive; scan->at is where the hello
 * ends. A hello in several records is put together in arena. MORE: nothing is wrong so far. BAD:
 * *why. How the bytes are cut does not change the result; LONG comes when in has
 * CLIENT_HELLO_MAX bytes without an end, at the latest. */
enum http_result client_hello_peek(struct hello_scan *scan, struct span in, struct arena *arena,
                                   struct client_hello *out, enum hello_fault *why);

/* client_hello_parse reads a whole message, its head of four bytes included. */
MUST_USE bool client_hello_parse(struct span message, struct arena *arena,
                                 struct client_hello *out, enum hello_fault *why);

/* client_hello_alpn cuts the next protocol off *rest, which is hello->alpn at first; false: there
 * is none. */
bool client_hello_alpn(struct span *rest, struct span *protocol);
/* client_hello_offers: is protocol among those of the hello? */
bool client_hello_offers(const struct client_hello *hello, struct span protocol);

#endif
