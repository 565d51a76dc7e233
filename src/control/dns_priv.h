/* dns_priv.h: what control/ knows of the DNS: SRV replies (dns_srv.c), questions through c-ares
 * (dns.c) and its system calls (dns_socket.c), the hosts file (dns_hosts.c), addresses
 * (dns_addrs.c). */
#ifndef WEIR_CONTROL_DNS_PRIV_H
#define WEIR_CONTROL_DNS_PRIV_H

#include "control/dns_schedule_priv.h"
#include "control/poller_priv.h"

/* ---- dns_srv.c ---- */

#define SRV_RANKS 8u /* priorities of a pool's endpoints */
#define SRV_SHARE_MAX 1000u

/* srv_record is one record; rank and share are its priority and weight among the others. */
struct srv_record {
  uint16_t priority, weight, port, share;
  uint8_t rank;
  char target[DNS_NAME_SIZE]; /* lower case, letters, digits, - and _ */
};

/* srv_reply is in the order of priority, target and port: however the server turns its answer, it
 * is the same. */
struct srv_reply {
  struct srv_record *rows;
  uint32_t count;
  uint32_t left_out; /* above NAME_ANSWERS_MAX */
  uint32_t skipped;  /* target is no host name, or the port is 0 */
  uint32_t ttl_s;    /* the lowest, of aliases too */
};
/* srv_parse reads a whole DNS message that answers a question for SRV records (RFC 1035 section 4,
 * RFC 2782); aliases are followed within it. RESOLVE_OK with at least one row, RESOLVE_EMPTY
 * (none, or the target "."), or RESOLVE_BAD. *out is to be freed only with RESOLVE_OK. */
enum resolve_result srv_parse(struct span packet, struct srv_reply *out);
void srv_reply_fini(struct srv_reply *r);

/* ---- dns.c: c-ares on the poller. Control thread only ---- */

struct dns;
struct dns_channel;

enum dns_type { DNS_A, DNS_AAAA, DNS_SRV };

/* dns_question is one query under way; it lives in its owner until done was called, which may be
 * within dns_ask. done only takes note: it is called from inside c-ares. */
struct dns_question {
  struct dns_channel *channel;
  enum dns_type type;
  uint64_t name;  /* hash of the last that was asked for */
  bool cancelled; /* done: the servers are others now, nobody has answered */
  void (*done)(struct dns_question *q, enum resolve_result result, struct span packet);
};

struct dns_config {
  struct poller *poller;
  /* after: c-ares has run and returned. Time for what done took note of, then for dns_rearm. */
  void (*after)(void *ctx);
  void *ctx;
};
struct dns *dns_new(const struct dns_config *config);
/* dns_close answers what is under way with RESOLVE_LOCAL and opens nothing more; dns_free comes
 * when all channels were put. */
void dns_close(struct dns *d);
void dns_free(struct dns *d);

/* dns_channel_get is the channel for a query's servers and times, with a ref. */
struct dns_channel *dns_channel_get(struct dns *d, const struct name_query *q);
/* dns_channel_put drops a ref; nothing of whoever held it is under way. Not from within done. */
void dns_channel_put(struct dns_channel *c);
/* dns_channel_ready opens it if need be, again when the machine's settings (resolv.conf) have
 * changed, which cancels what is under way; before each first dns_ask. False: c-ares cannot be
 * started. */
MUST_USE bool dns_channel_ready(struct dns_channel *c);
/* dns_channel_dead: the last questions, for two names at least or ever since it was opened, found
 * no server that answers. */
bool dns_channel_dead(const struct dns_channel *c);

/* dns_candidate is dns_search_name with the channel's list: the system's when its servers are. */
bool dns_candidate(const struct dns_channel *c, struct span name, uint32_t i,
                   char out[DNS_NAME_SIZE]);
/* dns_ask asks; done is called once. */
void dns_ask(struct dns_channel *c, struct dns_question *q, const char *name);
/* dns_rearm sets the timer for what is under way; after a batch of dns_ask. */
void dns_rearm(struct dns *d);

/* dns_hosts is the hosts file as it is now. */
const struct hosts *dns_hosts(struct dns_channel *c);

/* ---- dns_socket.c ---- */

/* dns_sockets has a channel use our system calls: *rcode is that of the last message that came, 0
 * after anything else. */
struct ares_channeldata;
void dns_sockets(struct ares_channeldata *ares, uint8_t *rcode);

/* ---- dns_hosts.c ---- */

#define HOSTS_BYTES_MAX (16 << 20) /* of the file that are read */

/* hosts is what stands in the hosts file; all zero before the first look. */
struct hosts {
  uint64_t stamp; /* of the file when it was read; 0: never */
  char *text;
  struct hosts_row *rows; /* by name */
  uint32_t count, room;
};
/* hosts_look reads the file if it is another than the last time; whether it did. */
bool hosts_look(struct hosts *h, const char *path);
/* hosts_find gives up to room addresses of a name (no trailing dot), in the order of the file. */
uint32_t hosts_find(const struct hosts *h, struct span name, int family, struct addr *rows,
                    uint32_t room);
void hosts_fini(struct hosts *h);

/* ---- dns_addrs.c ---- */

/* dns_addrs reads the addresses of a reply to a question for A or AAAA, as they come, with port 0;
 * the TTL is the lowest, of aliases too. With RESOLVE_OK *rows is the caller's (mem_free). */
enum resolve_result dns_addrs(enum dns_type type, struct span packet, struct addr **rows,
                              uint32_t *count, uint32_t *ttl_s);
/* dns_local gives addresses that are known without asking: of the hosts file, and of localhost
 * (RFC 6761 section 6.3); 0: none. rows has room for NAME_ANSWERS_MAX. */
uint32_t dns_local(const struct hosts *hosts, const struct name_query *q, struct addr *rows);
/* addrs_settle sorts, IPv4 first, and drops what stands twice; the number that is left. */
uint32_t addrs_settle(struct addr *rows, uint32_t count);

#endif
