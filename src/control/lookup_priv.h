/* lookup_priv.h: one name in the resolver: what is known (under the resolver's lock) and the round
 * of questions that is under way (control thread alone). resolver.c keeps the names and talks to
 * other threads, resolver_round.c asks, resolver_srv.c puts SRV records and their hosts together.
 */
#ifndef WEIR_CONTROL_LOOKUP_PRIV_H
#define WEIR_CONTROL_LOOKUP_PRIV_H

#include <pthread.h>

#include "control/resolver_priv.h"
#include "weir/base/wheel.h"

#define LOOKUP_BUCKETS 256u
#define LOCAL_CANDIDATE UINT32_MAX /* lookup.good_candidate: the hosts file */

/* srv_answer is an SRV reply with the names of its hosts: each is a lookup of its own. */
struct srv_answer {
  struct srv_reply reply;
  struct lookup **hosts; /* by row; each holds a parent of it */
};

/* lookup_question is one query of a round, and what came. */
struct lookup_question {
  struct dns_question dns;
  struct lookup *lookup;
  bool asked, done;
  enum resolve_result result;
  struct addr *addrs; /* RESOLVE_OK; A and AAAA */
  uint32_t addr_count, ttl_s;
  struct srv_reply srv; /* RESOLVE_OK; SRV */
};

/* lookup_round is what goes on for a name between two pauses: one candidate of the search list
 * after the other, each with all questions at once. */
struct lookup_round {
  bool on;
  uint32_t candidate, under_way;
  enum resolve_result worst; /* failure of a candidate before; RESOLVE_OK: none */
  bool empty;                /* a candidate exists, without such records */
  struct lookup_question questions[2];
};

struct lookup {
  struct list link, bucket;
  struct list open;     /* resolver.open, under the lock */
  struct list settling; /* resolver.settling, under the lock */
  struct list queue; /* resolver.due, or resolver.stirred */
  struct resolver *resolver;
  struct name_query query; /* its texts are owned */
  uint64_t hash; /* of the name: a bucket has all ways in which it is asked for */
  /* Under the lock. */
  uint64_t wanted;  /* the mark of the last want; 0: only hosts of SRV answers */
  uint32_t parents; /* rows of SRV answers that name it */
  bool hopeless;    /* its servers were silent when its first round began */
  bool asking;      /* a round is on, or is about to */
  struct name_state state;
  bool half_v6; /* state.half is that of IPv6 */
  struct addr *addrs; /* settled, port 0; not for SRV */
  uint32_t addr_count, left_out;
  uint32_t good_candidate;     /* that gave addrs */
  struct srv_answer *srv;      /* SRV: the one that counts */
  struct srv_answer *srv_next; /* SRV: waits until its hosts have been asked for */
  /* Control thread. */
  struct dns_channel *channel; /* of the round */
  struct timer timer;
  struct lookup_round round;
  uint64_t local_stamp; /* of the hosts file when it was looked at; 0: never */
  bool local;           /* it stands there */
  bool srv_odd;         /* what is wrong with the records was said */
};

struct resolver {
  struct resolver_config config;
  pthread_mutex_t lock;
  pthread_cond_t answered;
  struct list lookups;
  struct list buckets[LOOKUP_BUCKETS];
  struct list fresh; /* lookups (queue) that were added */
  struct list open;     /* lookups that may be waited for: without their first answer */
  struct list settling; /* SRV lookups with srv_next */
  uint64_t mark, swept; /* what was last wanted before `swept` is not wanted */
  bool reap;            /* something may have become unwanted */
  struct resolver_counts counts;
  /* Control thread only. */
  struct dns *dns;
  struct wheel wheel;
  struct poll_timer timer;
  struct list due;     /* wait for their round */
  struct list stirred; /* something came for them */
  uint32_t rounds;
  uint64_t rng;
};

static inline struct lookup *lookup_of(struct list *l) {
  return container_of(l, struct lookup, link);
}
/* lookup_wanted: by a configuration, or by an SRV answer; the lock is held. */
static inline bool lookup_wanted(const struct lookup *l) {
  return l->wanted >= l->resolver->swept || l->parents > 0;
}
static inline struct lookup *lookup_queued(struct list *l) {
  return container_of(l, struct lookup, queue);
}

/* ---- resolver.c ---- */

/* lookup_get finds or makes a lookup; the lock is held. A new one waits in r->fresh. */
struct lookup *lookup_get(struct resolver *r, const struct name_query *q);
/* lookup_note keeps resolver.open; the lock is held, something that makes an answer changed. */
void lookup_note(struct lookup *l);
/* lookup_changed tells that resolver_get gives something else. */
void lookup_changed(struct resolver *r);

/* ---- resolver_round.c ---- */

/* round_begin starts asking. */
void round_begin(struct lookup *l);
/* round_step goes on after something came. */
void round_step(struct lookup *l);
/* round_drop forgets what a round holds; nothing is under way. */
void round_drop(struct lookup *l);

/* ---- resolver_srv.c ---- */

/* srv_inherit has a new lookup use the records of another of the same name; the lock is held. */
void srv_inherit(struct lookup *l, const struct lookup *from);
/* srv_take makes a reply the next answer; it counts when all hosts have been asked for. */
void srv_take(struct lookup *l, struct srv_reply *reply);
/* srv_settle lets the next answers count that can; after a host's round. */
void srv_settle(struct resolver *r);
/* srv_answers lists the addresses of an SRV lookup, at most NAME_ANSWERS_MAX; the lock is held. */
uint32_t srv_answers(const struct lookup *l, struct name_answer *rows, struct arena *texts);
/* srv_resolved: any host has an address; the lock is held. */
bool srv_resolved(const struct lookup *l);
/* srv_forget drops both answers; the lock is held. */
void srv_forget(struct lookup *l);

#endif
