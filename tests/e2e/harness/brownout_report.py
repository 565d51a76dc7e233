"""The figures and the verdict of a run of brownout_run.py, for test_brownout.py and
test_metastable.py. WEIR_BROWNOUT_REPORT=FILE keeps them as JSON."""
import collections
import json
import os
import pathlib

from . import brownout_oracle as oracle
from .brownout_run import PATIENCE_S

RECOVERY_S = 5  # after which latency has to be back


def stretch(run, name, begin, end):
    """The figures of one stretch of time."""
    inside = [r for r in run.requests if begin <= r.begin < end]
    return {
        "what": name, "seconds": round(end - begin, 1), "requests": len(inside),
        "errors": sum(not r.well for r in inside),
        "p50_ms": round(1000 * oracle.quantile([r.end - r.begin for r in inside if r.well], 0.5)),
        "p99_ms": round(1000 * oracle.p99(run, begin, end)),
        "goodput": round(oracle.goodput(run, begin, end, PATIENCE_S)),
        "ideal_wait_ms": round(1000 * oracle.wait_of(run.best_queue, begin, end)),
        "work_ms": round(1000 * run.work_s((begin + end) / 2)),
        "stall_ms": round(1000 * run.stalled(begin, end)),
        "slots": ["%.1f" % busy(run, e, begin, end) for e in range(run.settings.endpoints)],
    }


def busy(run, endpoint, begin, end):
    """How many requests were at an endpoint, on average."""
    total = 0.0
    for attempt in run.by_endpoint[endpoint]:
        if attempt.end is None:  # killed
            continue
        until = attempt.end
        total += max(0.0, min(until, end) - max(attempt.begin, begin))
    return total / (end - begin)


def timeline(run, quiet_from):
    """Quiet time, then of each fault its first seconds, the rest of it, and the time after it."""
    last = max(r.begin for r in run.requests)
    begins = [f.begin for f in run.faults] + [last]
    rows = [stretch(run, "quiet", quiet_from, begins[0])]
    for fault, following in zip(run.faults, begins[1:]):
        middle = min(fault.begin + RECOVERY_S, fault.end)
        after = min(fault.end + RECOVERY_S, following)
        for name, begin, end in (("begins", fault.begin, middle), ("goes on", middle, fault.end),
                                 ("is over", fault.end, after), ("was", after, following)):
            if end - begin > 0.5:
                rows.append(stretch(run, "%s %s" % (fault.kind, name), begin, end))
    return rows


def counters(site):
    names = ("weir_pool_requests_total", "weir_pool_retries_total",
             "weir_pool_retries_refused_total", "weir_upstream_replays_total",
             "weir_upstream_hedges_total", "weir_upstream_hedges_won_total",
             "weir_endpoint_ejections_total")
    return {name: site.final.get(name) for name in names}


def by_rule(found):
    """{"unavoidable acted_on": {"POST upstream.reset": 3}}"""
    table = {}
    for each in found:
        key = "%s %s" % ("AVOIDABLE" if each.avoidable else "unavoidable", each.rule)
        table.setdefault(key, collections.Counter())[each.request.method] += 1
    return table


def show(report):
    path = os.environ.get("WEIR_BROWNOUT_REPORT")
    if path:
        pathlib.Path(path).write_text(json.dumps(report, indent=2) + "\n")
    for row in report["stretches"]:
        print(row)
    print({key: item for key, item in report.items() if key != "stretches"})


def check(site, run, quiet_from):
    """What holds in any run; the report."""
    found = oracle.labels(run)
    rows = timeline(run, quiet_from)
    report = {"requests": len(run.requests), "errors": len(found), "labels": by_rule(found),
              "counters": counters(site), "stretches": rows}
    show(report)
    tell = []
    for each in found:
        if each.avoidable:
            tell.append("%s %s: %s\n  %s\n  %s\n  %s" % (
                each.rule, each.why, where(run, each.request), each.request,
                run.records.get(each.request.trace), run.attempts.get(each.request.trace)))
    assert not tell, "%d errors that weir could have spared:\n%s" % (len(tell),
                                                                    "\n".join(tell[:20]))
    assert not oracle.ends_missing(run), oracle.ends_missing(run)[:10]
    assert not oracle.sent_twice(run), oracle.sent_twice(run)[:10]
    replays = site.final.get("weir_upstream_replays_total")
    assert not run.ledger.exceeded(replays), run.ledger.exceeded(replays)[:10]
    assert not site.exceeded_by_counters(), site.exceeded_by_counters()[:10]
    assert sum(r.attempts - 1 for r in run.records.values() if r.attempts) == \
        site.final.get("weir_pool_retries_total") + replays, report["counters"]
    return rows


def where(run, request):
    """When it was, by the faults."""
    for fault in reversed(run.faults):
        if request.begin >= fault.begin:
            return "%s +%.2f s (of %.2f)" % (fault.kind, request.begin - fault.begin,
                                             fault.end - fault.begin)
    return "before any fault"
