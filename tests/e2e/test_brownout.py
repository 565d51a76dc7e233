"""Brownout: four endpoints under steady load at 70 % of capacity, one of them at a time slow,
failing, gone or frozen. Every error that a client saw is labelled by harness/brownout_oracle.py,
and none may be left that weir could have spared it. packaging/docs/resilience.md has the
configuration.

The short run is part of the normal set and holds no time limit: labels, budget, end words. The
long one (pytest -m slow, before a release) has the latency too, relative to the quiet part of the
same run."""
import pytest

from harness.brownout_report import check
from harness.brownout_run import site  # noqa: F401

# One row per fault: what befalls which endpoint.
FAULTS = (
    ("slow", 0),
    ("failing", 1),
    ("gone", 2),
    ("frozen", 0),
    ("unresolved", 3),
)
FLOOR_S = 0.05  # of differences in latency that count on a shared machine


def all_faults(site, quiet_s, fault_s, between_s):
    """Drives the whole table; when it was quiet first."""
    site.wait(2)  # connections, latencies, checks
    quiet_from = site.samples[-1][0]
    site.wait(quiet_s)
    for kind, endpoint in FAULTS:
        site.fault(kind, endpoint, fault_s)
        site.wait(between_s)
    return site.finish(), quiet_from


def test_every_error_is_accounted_for(site):
    site = site(short=True)
    run, quiet_from = all_faults(site, 2, 3, 4)
    check(site, run, quiet_from)
    assert len(run.requests) > 1000 and len(run.by_endpoint[3]) > 100
    asked, failing = site.dns.count("app-4.internal"), run.faults[-1]
    assert failing.kind == "unresolved" and asked > 4
    assert site.weir.metric("weir_resolver_resolutions_total", outcome="servfail") >= 2
    assert any(not r.well or run.records[r.trace].tries for r in run.requests), "no fault was felt"


@pytest.mark.slow
def test_brownout(site):
    site = site()
    run, quiet_from = all_faults(site, 15, 20, 20)
    rows = check(site, run, quiet_from)
    quiet = rows[0]["p99_ms"] / 1000
    for row in rows[1:]:
        if row["what"].endswith(("goes on", "was")):
            # What stood still, and what waits before an ideal proxy too, is not weir's.
            most = max(2 * quiet, quiet + FLOOR_S)
            most += (row["stall_ms"] + row["ideal_wait_ms"]) / 1000
            assert row["p99_ms"] / 1000 <= most, (most, rows)
