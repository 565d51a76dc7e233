/* regex.h: regular expressions over bytes (PCRE2, with its JIT compiler where the system allows
 * it). A pattern is searched in the subject: it matches anywhere unless it says ^ and $. "." takes
 * any byte, "$" is the very end, nothing is UTF-8, (?i) is the only option.
 *
 * A pattern that can explode is refused when it is made, by three rules and a trial:
 * - a repeat in a repeat must be told apart: each turn of the outer one needs a byte that the
 *   inner ones do not take: ^(/[a-z]+)+$ is fine, ^([a-z]+/?)+$ is not;
 * - a pattern that is not anchored may not repeat bytes that it can begin with and then want more:
 *   it would be tried from every place (begin it with ^);
 * - backreferences, recursion, callouts, verbs, \K, \C, \R, \X, \p and repeats without an end in a
 *   lookbehind are refused;
 * - made subjects of REGEX_PROBE_LEN bytes, pumped by every repeat, may not reach a small limit;
 * - repeats in a row that take the same bytes may not be so many that nothing could be searched.
 *
 * What is left may still cost the square of the subject. So every pattern has a bound: the
 * subject's length, times the places in the subject at which one repeat can enter another one
 * again (regex_cost.c). It is taken off a budget, which is one request's, before anything runs;
 * when it is more than what is left, the answer is REGEX_LIMIT, which is never "no match". The
 * same bound holds, with the same answers, for machine code and for the interpreter, whose own
 * counters see different things. */
#ifndef WEIR_BASE_REGEX_H
#define WEIR_BASE_REGEX_H

#include <stdbool.h>

#include "weir/base/span.h"

#define REGEX_PATTERN_MAX 1024u /* bytes of a pattern */
#define REGEX_GROUPS_MAX 10u    /* group 0 is the whole match */
#define REGEX_BUDGET 1000000u   /* steps of one request, about 1 ns each as machine code */
#define REGEX_STEPS 20000u      /* match limit for any subject, behind the bound */
#define REGEX_STEPS_BYTE 16u    /* and for each step of the bound */
#define REGEX_PROBE_LEN 160u

/* regex is a compiled pattern: immutable, used by any number of threads at once. */
struct regex;

/* regex_fault says why a pattern is refused; at is an offset into it. */
struct regex_fault {
  char why[128];
  size_t at;
};

/* regex_new compiles; NULL and *fault when it is refused. The caller checked it before, or checks
 * it now: all rules hold for both. An equal pattern is shared while it is there. Allocates and
 * takes a lock; not for workers. */
MUST_USE struct regex *regex_new(struct span pattern, struct regex_fault *fault);
/* regex_free gives it back; what nobody holds any more goes with the next regex_sweep, which a run
 * of the configuration ends with. */
void regex_free(struct regex *re);
void regex_sweep(void);
/* regex_count is how many patterns are there, held or not yet swept. */
uint32_t regex_count(void);
/* regex_groups is how many groups a pattern has; ${0} is not counted. */
unsigned regex_groups(const struct regex *re);

/* regex_scratch is what one thread needs to match, made ahead: matching allocates nothing (the
 * interpreter may, up to 4 MiB in all, until it is warm). */
struct regex_scratch;
struct regex_scratch *regex_scratch_new(void);
void regex_scratch_free(struct regex_scratch *s);
/* regex_budget is what is left of the budget in s, regex_refill sets it: to REGEX_BUDGET when the
 * matching of a request begins. A new scratch is full. */
uint64_t regex_budget(const struct regex_scratch *s);
void regex_refill(struct regex_scratch *s, uint64_t steps);

enum regex_result { REGEX_NO, REGEX_YES, REGEX_LIMIT };

/* regex_match searches subject. REGEX_LIMIT: it could take more steps than the budget has, or has
 * too many turns of repeated groups for the stack of either engine. */
MUST_USE enum regex_result regex_match(const struct regex *re, struct span subject,
                                       struct regex_scratch *s);
/* regex_group gives a group of the last match (REGEX_YES) in s, borrowed from its subject; empty
 * when it took no part. group is below REGEX_GROUPS_MAX. */
struct span regex_group(const struct regex_scratch *s, struct span subject, unsigned group);

/* regex_room lends count bytes of s for a subject that must be made (decoded); at most
 * REGEX_ROOM. The next call ends the loan. */
#define REGEX_ROOM 8192u
char *regex_room(struct regex_scratch *s);

#endif
