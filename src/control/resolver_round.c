/* resolver_round.c: one round of questions for a name: the hosts file, then the DNS, candidate by
 * candidate of the search list, A and AAAA at once; and what their answers mean for the addresses
 * that are known. A family whose question failed keeps its addresses, whatever the other says.
 * Does not: send (dns.c) or plan (dns_schedule.c). Called by resolver.c. */
#include <stdio.h>

#include "control/lookup_priv.h"
#include "weir/base/mem.h"

static struct span name_of(const struct lookup *l) { return l->query.name; }

static void say(struct lookup *l, enum end_level level, const char *what) {
  char line[1024];
  struct resolver *r = l->resolver;
  (void)snprintf(line, sizeof line, "%s " SPAN_FMT ": %s", l->query.srv ? "SRV name" : "name",
                 SPAN_ARG(name_of(l)), what);
  r->config.say(r->config.ctx, level, line);
}

/* ---- the end of a round ---- */

static uint32_t known(const struct lookup *l) {
  return l->query.srv ? (l->srv ? l->srv->reply.count : 0) : l->addr_count;
}

static void say_fails(struct lookup *l, const struct name_state *before, uint64_t now_ms) {
  char what[512];
  const char *why = resolve_sentence((enum resolve_result)l->state.failing);
  uint32_t count = known(l);
  if (count && before->good) {
    (void)snprintf(what, sizeof what, "%s; the last answer stays in use (%u %s%s, %llu ms old)",
                   why, count, l->query.srv ? "record" : "address",
                   count == 1     ? ""
                   : l->query.srv ? "s"
                                  : "es",
                   (unsigned long long)(now_ms - before->answer_ms));
  } else {
    (void)snprintf(what, sizeof what,
                   "%s; no address is known, it is asked for again with growing pauses", why);
  }
  say(l, END_LEVEL_WARN, what);
}

static void say_recovers(struct lookup *l, const struct name_state *before, uint64_t now_ms) {
  char what[128];
  (void)snprintf(what, sizeof what, "resolved, after failing for %llu ms",
                 (unsigned long long)(now_ms - before->failing_ms));
  say(l, END_LEVEL_INFO, what);
}

static void say_half(struct lookup *l) {
  char what[256];
  uint32_t count = 0;
  for (uint32_t i = 0; i < l->addr_count; i++) {
    count += (l->addrs[i].sa.sa_family == AF_INET6) == l->half_v6;
  }
  (void)snprintf(what, sizeof what, "%s: %s; what is known of it stays in use (%u address%s)",
                 resolve_family(l->half_v6), resolve_sentence((enum resolve_result)l->state.half),
                 count, count == 1 ? "" : "es");
  say(l, END_LEVEL_WARN, what);
}

static void say_whole(struct lookup *l, const struct name_state *before, uint64_t now_ms) {
  char what[128];
  (void)snprintf(what, sizeof what, "%s: answered again, after failing for %llu ms",
                 resolve_family(l->half_v6), (unsigned long long)(now_ms - before->half_ms));
  say(l, END_LEVEL_INFO, what);
}

static void say_change(struct lookup *l, enum name_change change, const struct name_state *before,
                       uint64_t now_ms) {
  switch (change) {
    case NAME_SAME: return;
    case NAME_FAILS: say_fails(l, before, now_ms); return;
    case NAME_RECOVERS: say_recovers(l, before, now_ms); return;
    case NAME_HALF: say_half(l); return;
    case NAME_WHOLE: say_whole(l, before, now_ms); return;
  }
}

void round_drop(struct lookup *l) {
  check(l->round.under_way == 0);
  for (size_t i = 0; i < array_count(l->round.questions); i++) {
    struct lookup_question *q = &l->round.questions[i];
    mem_free(q->addrs);
    srv_reply_fini(&q->srv);
    *q = (struct lookup_question){.asked = false};
  }
}

/* finish ends the round with a result, plans the next, and tells what is news. half: as for
 * name_good. */
static void finish(struct lookup *l, enum resolve_result result, uint32_t ttl_s,
                   enum resolve_result half) {
  struct resolver *r = l->resolver;
  const struct name_now now = {r->config.poller->now_ms, &r->rng};
  struct name_state before = l->state;
  bool half_v6 = half ? l->round.questions[0].result == RESOLVE_OK : l->half_v6;
  round_drop(l);
  l->round.on = false;
  r->rounds--;
  pthread_mutex_lock(&r->lock);
  enum name_change change = result == RESOLVE_OK
                                ? name_good(&l->state, &l->query, ttl_s, half, &now)
                                : name_bad(&l->state, &l->query, result, &now);
  l->half_v6 = half_v6;
  lookup_note(l);
  l->asking = false;
  r->counts.results[result]++;
  r->counts.failures += result != RESOLVE_OK;
  r->reap = r->reap || !lookup_wanted(l);
  pthread_cond_broadcast(&r->answered);
  pthread_mutex_unlock(&r->lock);
  timer_set(&r->wheel, &l->timer, l->state.next_ms);
  say_change(l, change, &before, now.ms);
  srv_settle(r);
}

/* ---- addresses ---- */

static bool same(const struct addr *a, const struct addr *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (!addr_eq(&a[i], &b[i])) {
      return false;
    }
  }
  return true;
}

static void say_left_out(struct lookup *l, uint32_t before) {
  char what[128];
  if (l->left_out && !before) {
    (void)snprintf(what, sizeof what, "has %u addresses; the first %u are used",
                   NAME_ANSWERS_MAX + l->left_out, NAME_ANSWERS_MAX);
    say(l, END_LEVEL_WARN, what);
  }
}

/* addrs_take makes rows (heap, taken) the addresses of the name, found under a candidate. */
static void addrs_take(struct lookup *l, struct addr *rows, uint32_t count, uint32_t candidate) {
  struct resolver *r = l->resolver;
  uint32_t settled = addrs_settle(rows, count), left_out_before = l->left_out;
  uint32_t kept = settled < NAME_ANSWERS_MAX ? settled : NAME_ANSWERS_MAX;
  bool news = kept != l->addr_count || !same(rows, l->addrs, kept);
  pthread_mutex_lock(&r->lock);
  l->left_out = settled - kept;
  l->good_candidate = candidate;
  if (news) {
    struct addr *old = l->addrs;
    l->addrs = (struct addr *)mem_grow(rows, kept, sizeof *rows);
    l->addr_count = kept;
    rows = old;
  }
  pthread_mutex_unlock(&r->lock);
  mem_free(rows);
  say_left_out(l, left_out_before);
  if (news) {
    lookup_changed(r);
  }
}

static bool definite(enum resolve_result result) {
  return result == RESOLVE_NXDOMAIN || result == RESOLVE_EMPTY;
}

/* keeps tells whether the old addresses of a question's family stay: no word has come that there
 * are others, or none. */
static bool keeps(const struct lookup *l, const struct lookup_question *q) {
  bool open = q->asked && (!q->done || (q->result != RESOLVE_OK && !definite(q->result)));
  return open && l->round.candidate == l->good_candidate;
}

static uint32_t put_family(const struct lookup *l, const struct lookup_question *q,
                           struct addr *rows) {
  int family = q->dns.type == DNS_A ? AF_INET : AF_INET6;
  uint32_t count = 0;
  if (q->done && q->result == RESOLVE_OK) {
    memcpy(rows, q->addrs, q->addr_count * sizeof *rows);
    return q->addr_count;
  }
  for (uint32_t i = 0; i < l->addr_count && keeps(l, q); i++) {
    if (l->addrs[i].sa.sa_family == family) {
      rows[count++] = l->addrs[i];
    }
  }
  return count;
}

static void apply_addrs(struct lookup *l) {
  struct lookup_question *q = l->round.questions;
  uint32_t count = 0;
  struct addr *rows = (struct addr *)mem_array(
      (size_t)l->addr_count * 2 + q[0].addr_count + q[1].addr_count + 1, sizeof *rows);
  for (int i = 0; i < 2; i++) {
    count += put_family(l, &q[i], rows + count);
  }
  addrs_take(l, rows, count, l->round.candidate);
}

/* ---- questions ---- */

/* leave_mapped keeps IPv4 addresses out that stand in AAAA records, where IPv6 alone is wanted. */
static enum resolve_result leave_mapped(struct lookup_question *q) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < q->addr_count; i++) {
    if (q->addrs[i].sa.sa_family == AF_INET6) {
      q->addrs[kept++] = q->addrs[i];
    }
  }
  q->addr_count = kept;
  return kept ? RESOLVE_OK : RESOLVE_EMPTY;
}

static void on_done(struct dns_question *dns, enum resolve_result result, struct span packet) {
  struct lookup_question *q = container_of(dns, struct lookup_question, dns);
  struct lookup *l = q->lookup;
  if (result == RESOLVE_OK) {
    result = dns->type == DNS_SRV
                 ? srv_parse(packet, &q->srv)
                 : dns_addrs(dns->type, packet, &q->addrs, &q->addr_count, &q->ttl_s);
  }
  if (result == RESOLVE_OK && dns->type == DNS_AAAA && l->query.family == NAME_V6) {
    result = leave_mapped(q);
  }
  q->ttl_s = result == RESOLVE_OK && dns->type == DNS_SRV ? q->srv.ttl_s : q->ttl_s;
  q->result = result;
  q->done = true;
  l->round.under_way--;
  list_remove(&l->queue);
  list_push_tail(&l->resolver->stirred, &l->queue);
}

static void question_init(struct lookup *l, uint32_t i, enum dns_type type, bool wanted) {
  l->round.questions[i] = (struct lookup_question){
      .dns = {.type = type, .done = on_done}, .lookup = l, .asked = wanted};
  l->round.under_way += wanted;
}

static void ask_candidate(struct lookup *l) {
  char name[DNS_NAME_SIZE];
  struct lookup_round *round = &l->round;
  if (!dns_candidate(l->channel, name_of(l), round->candidate, name)) {
    finish(l,
           round->worst   ? round->worst
           : round->empty ? RESOLVE_EMPTY
                          : RESOLVE_NXDOMAIN,
           0, RESOLVE_OK);
    return;
  }
  round_drop(l);
  if (l->query.srv) {
    question_init(l, 0, DNS_SRV, true);
  } else {
    question_init(l, 0, DNS_A, l->query.family != NAME_V6);
    question_init(l, 1, DNS_AAAA, l->query.family != NAME_V4);
  }
  for (int i = 0; i < 2; i++) {
    if (round->questions[i].asked) {
      dns_ask(l->channel, &round->questions[i].dns, name);
    }
  }
}

/* judge looks at a candidate without any address: the next one, or the end. A server that is
 * silent will be so for the next name too; and the candidate that the last answer came from is
 * not passed by because it fails right now. */
static void judge(struct lookup *l) {
  struct lookup_round *round = &l->round;
  bool failed = false;
  for (int i = 0; i < 2; i++) {
    const struct lookup_question *q = &round->questions[i];
    if (!q->asked) continue;
    round->empty = round->empty || q->result == RESOLVE_EMPTY;
    if (!definite(q->result)) {
      round->worst = q->result;
      failed = true;
    }
  }
  bool silent = round->worst == RESOLVE_TIMEOUT || round->worst == RESOLVE_UNREACHABLE;
  bool ours = l->state.good && round->candidate == l->good_candidate;
  if (failed && (silent || ours)) {
    finish(l, round->worst, 0, RESOLVE_OK);
    return;
  }
  round->candidate++;
  ask_candidate(l);
}

/* ask_again begins anew: the search list may be another too. */
static void ask_again(struct lookup *l) {
  struct lookup_round *round = &l->round;
  round->candidate = 0;
  round->worst = RESOLVE_OK;
  round->empty = false;
  ask_candidate(l);
}

static void succeed(struct lookup *l) {
  uint32_t ttl_s = INT32_MAX;
  enum resolve_result half = RESOLVE_OK;
  for (int i = 0; i < 2; i++) {
    const struct lookup_question *q = &l->round.questions[i];
    if (q->asked && q->result == RESOLVE_OK) {
      ttl_s = q->ttl_s < ttl_s ? q->ttl_s : ttl_s;
    } else if (q->asked && !definite(q->result)) {
      half = q->result;
    }
  }
  finish(l, RESOLVE_OK, ttl_s, half);
}

void round_step(struct lookup *l) {
  struct lookup_question *q = l->round.questions;
  bool good = (q[0].done && q[0].result == RESOLVE_OK) || (q[1].done && q[1].result == RESOLVE_OK);
  if (!l->round.on) {
    return;
  }
  if (good && l->query.srv) {
    srv_take(l, &q[0].srv);
  } else if (good) {
    apply_addrs(l);
  }
  if (l->round.under_way) {
    return;
  }
  if (q[0].dns.cancelled || q[1].dns.cancelled) {
    ask_again(l);
  } else if (good) {
    succeed(l);
  } else {
    judge(l);
  }
}

/* ---- the beginning ---- */

/* local_known takes addresses from the hosts file; true: they are the answer. */
static bool local_known(struct lookup *l) {
  const struct hosts *hosts = dns_hosts(l->channel);
  if (hosts->stamp != l->local_stamp) {
    struct addr *rows = (struct addr *)mem_array(NAME_ANSWERS_MAX, sizeof *rows);
    uint32_t count = dns_local(hosts, &l->query, rows);
    l->local_stamp = hosts->stamp;
    l->local = count > 0;
    if (l->local) {
      addrs_take(l, rows, count, LOCAL_CANDIDATE);
    } else {
      mem_free(rows);
    }
  }
  return l->local;
}

void round_begin(struct lookup *l) {
  struct resolver *r = l->resolver;
  l->round = (struct lookup_round){.on = true};
  r->rounds++;
  l->channel = l->channel ? l->channel : dns_channel_get(r->dns, &l->query);
  pthread_mutex_lock(&r->lock);
  r->counts.queries++;
  l->hopeless = !l->state.answered && dns_channel_dead(l->channel);
  lookup_note(l);
  if (l->hopeless) {
    pthread_cond_broadcast(&r->answered);
  }
  pthread_mutex_unlock(&r->lock);
  if (!dns_channel_ready(l->channel)) {
    finish(l, RESOLVE_LOCAL, 0, RESOLVE_OK);
  } else if (!l->query.srv && local_known(l)) {
    finish(l, RESOLVE_OK, 0, RESOLVE_OK);
  } else {
    ask_candidate(l);
  }
}
