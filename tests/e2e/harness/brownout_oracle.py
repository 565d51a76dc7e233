"""Says of every error that a client saw whether any proxy could have spared it (test_brownout.py).

Pure: it is given the clients' records, the backends' records, weir's access log, the schedule of
the faults and the settings (`Run`), and gives labels. What it knows of weir are the documented
settings and words, never its code; it is strict where it can be: an error is avoidable unless a
rule of RULES proves the contrary. An ideal proxy is one that keeps these settings, knows of a
fault what checks and outcomes have told so far, and never sends twice what is not idempotent and
was sent. Times are seconds of one clock.
"""
import bisect
import dataclasses
import math
import typing

IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
SLOT_S = 1.024  # the budget looks back on eight of these, the newest of them begun
SLOTS = 8
CLOSE_S = 0.25  # what two processes may differ in about the order of things
BIN_S = 0.1  # of the ideal queue
EFFICIENCY = 0.95  # of slots, which an ideal queue keeps busy whenever somebody waits
WORK_S, WORK_MIN = 2, 100  # seconds before and after that say how quick the backends were
RUNS_SEEN = 3  # runs of bad outcomes until weir saw one for sure: two workers may order them else
RATE_MARGIN = 5  # points above the failure rate, for the same reason
REACT_S = 1.0  # from the last thing that had to be known to what comes of it
EJECTED_PART = 0.9  # of the time of an ejection without any request: it was ejected
STALL_S = 0.25  # a process that did not run for so long is no fault of the proxy's ...
STALL_PART = 4  # ... when it is that part of the time that was too long
NOT_SENT = ("upstream.connect.", "upstream.none_healthy", "upstream.resolve.", "upstream.queue.")
WAITED = ("upstream.queue.timeout", "upstream.queue.full", "upstream.queue.displaced",
          "upstream.timeout")
TIMED = WAITED + ("upstream.first_byte.timeout", "upstream.connect.timeout", "client.closed",
                  "client.reset")


@dataclasses.dataclass
class Request:
    """What a client saw. status 0: error says what came instead of a response."""

    trace: str
    task: str
    method: str
    begin: float
    end: float
    status: int
    error: str = "-"

    @property
    def well(self):
        return self.status == 200

    @property
    def safe(self):
        return self.method in IDEMPOTENT


@dataclasses.dataclass
class Attempt:
    """What a backend saw of it; end and outcome are None when it was killed meanwhile. work_s is
    how long it held a slot."""

    trace: str
    method: str
    endpoint: int
    begin: float
    end: float | None = None
    outcome: str | None = None
    work_s: float = 0.0


@dataclasses.dataclass
class Record:
    """weir's access log; tries are (endpoint, how it ended) of the earlier attempts, queue_s how
    long it waited for a permit."""

    trace: str
    end: str
    status: int
    endpoint: int | None
    attempts: int
    tries: list
    queue_s: float = 0.0


@dataclasses.dataclass
class Fault:
    """endpoint None: all of them. capacity is what an ideal proxy has of an endpoint meanwhile, by
    its slots and usual service time."""

    kind: str
    endpoint: int | None
    begin: float
    end: float
    capacity: float

    def at(self, endpoint, begin, end):
        """True when it stood at this endpoint at some time from begin to end."""
        if self.endpoint is not None and endpoint != self.endpoint:
            return False
        return begin < self.end and end > self.begin


@dataclasses.dataclass
class Settings:
    """What the configuration and the backends say."""

    endpoints: int
    slots: int
    mean_s: float
    workers: int
    attempts: int
    budget: float  # 0.2 is 20 %
    budget_min: float
    queue_s: float
    consecutive_5xx: int
    failure_rate: float  # percent
    window_s: float
    min_requests: int
    eject_s: float
    health_s: float  # until checks have found out an endpoint that does not answer


class Label(typing.NamedTuple):
    request: Request
    avoidable: bool
    rule: str
    why: str


class Run:
    """All that is known of a run, joined by trace."""

    def __init__(self, settings, faults, requests, records, attempts, stalls=()):
        self.settings, self.faults, self.requests = settings, faults, requests
        self.records = {record.trace: record for record in records}
        self.stalls = sorted(stalls)
        self.attempts = {}
        for attempt in sorted(attempts, key=lambda a: a.begin):
            self.attempts.setdefault(attempt.trace, []).append(attempt)
        self.by_endpoint = [[a for a in attempts if a.endpoint == e]
                            for e in range(settings.endpoints)]
        self.worked = self.second_by_second(attempts)
        self.out = [self.ought_to_be_out(e) for e in range(settings.endpoints)]
        self.ledger = Ledger(self)
        self.queue = ideal_queue(self, EFFICIENCY)
        self.best_queue = ideal_queue(self, 1)

    def faulty(self, endpoint, begin, end):
        """The fault of an endpoint at some time from begin to end, or None."""
        return next((f for f in self.faults if f.at(endpoint, begin, end)), None)

    def ought_to_be_out(self, endpoint):
        """[(from, to)]: by checks, or by outcomes, it had to be out of service."""
        s = self.settings
        spans = [(f.begin + s.health_s, f.end) for f in self.faults
                 if f.kind in ("gone", "frozen") and f.endpoint in (endpoint, None)]
        for outcomes, back in self.services(endpoint):
            told = consecutive(outcomes, s.consecutive_5xx) if s.consecutive_5xx else []
            told += often(outcomes, s) if s.failure_rate else []
            spans += [(t + REACT_S, min(t + s.eject_s, back - CLOSE_S)) for t in told]
        return spans

    def services(self, endpoint):
        """([(when, bad)], when it was back) of each time in service: it was taken out, as one sees
        from nothing being sent there for so long, and what went before says nothing about it
        afterwards."""
        found, outcomes, last = [], [], math.inf
        for a in sorted(self.by_endpoint[endpoint], key=lambda a: a.begin):
            if a.begin - last > EJECTED_PART * self.settings.eject_s:
                found.append((sorted(outcomes), a.begin))
                outcomes = []
            last = a.begin
            if a.end is not None and not self.replayed(a):
                outcomes.append((a.end, a.outcome not in ("ok", "gone")))
        return [*found, (sorted(outcomes), math.inf)]

    def replayed(self, attempt):
        """It met the end of a kept connection, and went to the same endpoint again: nobody's
        failure (retries.md)."""
        seen = self.attempts[attempt.trace]
        at = next(i for i, each in enumerate(seen) if each is attempt)
        return attempt.outcome == "reset" and at + 1 < len(seen) \
            and seen[at + 1].endpoint == attempt.endpoint

    def known(self, endpoint, now):
        """Since when it ought to have been out of service, or None."""
        return next((a for a, b in self.out[endpoint] if a < now < b), None)

    def second_by_second(self, attempts):
        """{second: (seconds of work, requests)} where no fault made it longer."""
        worked = {}
        for a in attempts:
            slow = self.faulty(a.endpoint, a.begin, a.end) if a.work_s else None
            if a.work_s and (slow is None or slow.kind == "half"):
                total, count = worked.get(int(a.end), (0.0, 0))
                worked[int(a.end)] = (total + a.work_s, count + 1)
        return worked

    def work_s(self, now):
        """How long a request held a slot, about that time: on a busy machine more than drawn."""
        near = [self.worked.get(int(now) + i, (0.0, 0)) for i in range(-WORK_S, WORK_S + 1)]
        count = sum(each[1] for each in near)
        if count < WORK_MIN:
            return self.settings.mean_s
        return sum(each[0] for each in near) / count

    def stalled(self, begin, end):
        """The longest stall of a process of the test itself that touches this time."""
        return max((seconds for at, seconds in self.stalls
                    if at < end and at + seconds > begin), default=0)


def consecutive(outcomes, limit):
    """When RUNS_SEEN runs of limit bad outcomes were complete, the first time and so on."""
    found, bad, runs = [], 0, 0
    for when, is_bad in outcomes:
        bad = bad + 1 if is_bad else 0
        if bad == limit:
            bad, runs = 0, runs + 1
            if runs % RUNS_SEEN == 0:
                found.append(when)
    return found


def often(outcomes, settings):
    """When the failure rate over the window was above its limit."""
    found, first, bad = [], 0, 0
    for i, (when, is_bad) in enumerate(outcomes):
        bad += is_bad
        while outcomes[first][0] < when - settings.window_s:
            bad -= outcomes[first][1]
            first += 1
        count = i + 1 - first
        if count >= settings.min_requests + RATE_MARGIN and \
                bad * 100 >= count * (settings.failure_rate + RATE_MARGIN):
            found.append(when)
    return found


# ---- the budget ----


class Ledger:
    """Requests and further attempts over time. Of a further attempt that no backend saw (refused,
    unsent) only the time of its request is known: (earliest, latest)."""

    def __init__(self, run):
        self.settings = run.settings
        self.requests = sorted(r.begin for r in run.requests)
        self.retries = []
        for request in run.requests:
            record = run.records.get(request.trace)
            count = record.attempts - 1 if record else 0
            seen = [a.begin for a in run.attempts.get(request.trace, ())]
            seen = [t for t in seen if t <= request.end + CLOSE_S]
            if count > 0 and len(seen) == count + 1:
                self.retries += [(t, t) for t in seen[1:]]
            elif count > 0:
                self.retries += [(request.begin, request.end)] * count
        self.retries.sort(key=lambda span: span[1])

    def requests_in(self, begin, end):
        return bisect.bisect_right(self.requests, end) - bisect.bisect_left(self.requests, begin)

    def floor(self):
        return math.floor(self.settings.budget_min * SLOTS * SLOT_S)

    def exhausted(self, now):
        """True when the budget may have been spent then: every retry that may count is counted."""
        begin, end = now - SLOTS * SLOT_S - CLOSE_S, now + CLOSE_S
        retries = sum(1 for lo, hi in self.retries if hi >= begin and lo <= end)
        requests = self.requests_in(now - (SLOTS - 1) * SLOT_S + CLOSE_S, now - CLOSE_S)
        return retries + 1 > requests * self.settings.budget + self.floor()

    def exceeded(self, beside):
        """[(time, retries, allowed)] of windows with more retries than the budget allows, whatever
        the unknown times are. beside: attempts that cost no budget (replays)."""
        found = []
        for _, now in self.retries:
            begin = now - (SLOTS - 1) * SLOT_S
            retries = sum(1 for lo, hi in self.retries if lo >= begin and hi <= now)
            requests = self.requests_in(now - SLOTS * SLOT_S - CLOSE_S, now + CLOSE_S)
            allowed = requests * self.settings.budget + self.floor() \
                + self.settings.workers - 1 + beside
            if retries > allowed:
                found.append((now, retries, allowed))
        return found


# ---- the ideal queue ----


def capacity(run, begin, end, efficiency):
    """(requests that an ideal proxy can have served from begin to end, per second while nothing
    stands still)"""
    s, total, work_s = run.settings, 0.0, run.work_s(begin)
    for endpoint in range(s.endpoints):
        part = 1.0
        for fault in run.faults:
            if fault.at(endpoint, begin, end):
                part = min(part, fault.capacity)
        total += part
    stalled = sum(max(0, min(end, at + seconds) - max(begin, at)) for at, seconds in run.stalls)
    usable = max(0, end - begin - stalled)
    rate = total * s.slots / work_s * efficiency
    return rate * usable, max(rate, 1e-9)


def ideal_queue(run, efficiency):
    """[(time, seconds that a request would wait then)]: all requests in one queue before all
    slots, which drops what has waited for queue_s."""
    if not run.requests:
        return []
    begins = sorted(r.begin for r in run.requests)
    now, place, backlog, waits = begins[0], 0, 0.0, []
    while now < begins[-1]:
        served, rate = capacity(run, now, now + BIN_S, efficiency)
        after = bisect.bisect_left(begins, now + BIN_S, place)
        backlog = max(0.0, backlog + after - place - served)
        backlog = min(backlog, rate * run.settings.queue_s + after - place)
        waits.append((now, backlog / rate))
        now, place = now + BIN_S, after
    return waits


def wait_of(queue, begin, end):
    """The longest wait of an ideal queue between begin and end."""
    first = bisect.bisect_left(queue, (begin - BIN_S,))
    last = bisect.bisect_right(queue, (end,))
    return max((wait for _, wait in queue[first:last]), default=0.0)


# ---- the rules: each gives None, or (avoidable, why) ----


def lost(_run, request, record):
    """What weir does not log it did not do right."""
    if record is None:
        return True, "no record in the access log (%s)" % request.error
    return None


def stalled(run, request, record):
    """A process of the test did not run meanwhile, and it is a time limit that was missed."""
    seconds = run.stalled(request.begin, request.end)
    enough = max(STALL_S, (request.end - request.begin) / STALL_PART)
    if seconds >= enough and record.end in TIMED:
        return False, "a process of the test stood still for %.2f s" % seconds
    return None


def cut_short(_run, _request, record):
    """A limit of one attempt is there so that another one follows, not to lose an answer that may
    still come."""
    if record.end == "upstream.try.timeout":
        return True, "given up by retry.per_try_timeout, and nothing followed"
    return None


def acted_on(run, request, record):
    """Not idempotent, and an endpoint that failed may have begun to act on it: it may not be sent
    again. It should not have been sent there once the fault could be known."""
    if request.safe or record.end.startswith(NOT_SENT) or record.endpoint is None:
        return None
    seen = run.attempts.get(request.trace)
    # A frozen backend reads what was sent when nobody waits for it any more.
    told = seen and seen[-1].begin <= request.end
    sent = seen[-1].begin if told else request.begin + record.queue_s
    fault = run.faulty(record.endpoint, request.begin, request.end)
    if fault is None or fault.kind == "half":
        return None
    since = run.known(record.endpoint, sent)
    if since is not None:
        return True, "sent to endpoint %d %.2f s after it had to be out of service" % (
            record.endpoint, sent - since)
    if fault.kind == "gone" and not seen and request.begin > fault.begin + CLOSE_S:
        return True, "sent on a connection that ended %.2f s ago" % (request.begin - fault.begin)
    return False, "endpoint %d (%s) may have acted on it" % (record.endpoint, fault.kind)


def overloaded(run, request, record):
    """More came than what was left could serve: somebody had to wait too long."""
    if record.end not in WAITED:
        return None
    wait = wait_of(run.queue, request.begin, request.end)
    if wait >= run.settings.queue_s / 2:
        return False, "an ideal queue was %.2f s long" % wait
    return True, "it waited too long, where an ideal queue was %.2f s long" % wait


def places_of(record):
    """Endpoints of all attempts, the last one too."""
    last = [record.endpoint] if record.endpoint is not None else []
    return [endpoint for endpoint, _ in record.tries] + last


def well_untried(run, request, record):
    """Endpoints without a fault that it was not sent to."""
    return [e for e in range(run.settings.endpoints)
            if e not in places_of(record) and not run.faulty(e, request.begin, request.end)]


def spent(run, request, record):
    """All attempts were made, and none was left out that would have answered."""
    if record.attempts < run.settings.attempts:
        return None
    left = well_untried(run, request, record)
    if left:
        return True, "all %d attempts, but none to endpoint %s, which were well" % (
            record.attempts, left)
    return False, "all %d attempts failed" % record.attempts


def over_budget(run, request, record):
    """It failed, might have been tried again, and the budget was spent."""
    if not request.safe or record.end in WAITED:
        return None
    if run.ledger.exhausted(request.end):
        return False, "the retry budget was spent"
    return None


def nobody_left(run, request, record):
    """Every endpoint had a fault."""
    if record.end not in ("upstream.none_healthy", "upstream.resolve.failed"):
        return None
    left = [e for e in range(run.settings.endpoints)
            if not run.faulty(e, request.begin, request.end)]
    return (True, "endpoints %s were well" % left) if left else (False, "every endpoint was out")


RULES = (lost, stalled, cut_short, acted_on, overloaded, nobody_left, spent, over_budget)


def label(run, request):
    """The label of one request that was not answered well."""
    record = run.records.get(request.trace)
    for rule in RULES:
        verdict = rule(run, request, record)
        if verdict:
            return Label(request, verdict[0], rule.__name__, verdict[1])
    return Label(request, True, "none", "%s %s at endpoint %s after %s, and nothing excuses it" % (
        request.method, record.end, record.endpoint, record.tries))


def labels(run):
    return [label(run, request) for request in run.requests if not request.well]


# ---- what must hold besides ----


def ends_missing(run):
    """Errors whose end word does not say what happened: weir's own need one that is not ok, those
    of an endpoint are ok and stand in that endpoint's record."""
    found = []
    for request in run.requests:
        record = run.records.get(request.trace)
        if request.well or record is None:
            continue
        outcomes = [a.outcome for a in run.attempts.get(request.trace, ())]
        relayed = record.end == "ok" and str(request.status) in outcomes
        if not relayed and (record.end == "ok" or "." not in record.end):
            found.append((request, record.end, outcomes))
        elif request.status and request.status != record.status:
            found.append((request, record.end, record.status))
    return found


def sent_twice(run):
    """Requests that are not idempotent and were begun by backends more than once."""
    return [seen for seen in run.attempts.values() if seen[0].method not in IDEMPOTENT
            and len(seen) > 1]


def quantile(values, share):
    """The smallest value that this share of values does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


def p99(run, begin, end):
    """Of the latency of what was answered well and began from begin to end."""
    return quantile([r.end - r.begin for r in run.requests
                     if begin <= r.begin < end and r.well], 0.99)


def goodput(run, begin, end, within):
    """Tasks per second that were done from begin to end, within so many seconds of their begin."""
    first = {}
    for request in run.requests:
        first[request.task] = min(first.get(request.task, request.begin), request.begin)
    done = {r.task for r in run.requests
            if r.well and begin <= r.end < end and r.end - first[r.task] <= within}
    return len(done) / (end - begin)
