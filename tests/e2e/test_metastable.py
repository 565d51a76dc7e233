"""Metastable failure (Bronson and others, HotOS 2021): backends lose half of their capacity for a
time under load, while clients send again what failed. What the proxy adds must not keep the
overload going: goodput comes back by itself. Configuration, load and oracle are those of
test_brownout.py."""
import pytest

from harness import brownout_oracle as oracle
from harness.brownout_report import check
from harness.brownout_run import site  # noqa: F401

WITHIN_S = 3  # an answer that comes later is no good to anybody
OLD_LEVEL = 0.9  # of the goodput before; a Poisson process of 280/s varies by 4 % in a second
RECOVERY_S = 10


def halved(site, quiet_s, fault_s, after_s):
    site.wait(2)  # connections, latencies, checks
    quiet_from = site.samples[-1][0]
    site.wait(quiet_s)
    site.fault("half", None, fault_s)
    site.wait(after_s)
    return site.finish(), quiet_from


def goodputs(run, begin, end):
    """Tasks done, second by second."""
    return [round(oracle.goodput(run, t, t + 1, WITHIN_S))
            for t in (begin + i for i in range(int(end - begin)))]


def test_overload_is_shed_with_a_word(site):
    """Labels, budget and end words; no time limits."""
    site = site(short=True, resends=1)
    run, quiet_from = halved(site, 2, 5, 6)
    check(site, run, quiet_from)
    ends = {run.records[r.trace].end for r in run.requests if not r.well}
    assert ends & {"upstream.queue.timeout", "upstream.queue.full"}, ends


@pytest.mark.slow
def test_goodput_comes_back(site):
    site = site(resends=1)
    run, quiet_from = halved(site, 15, 20, 25)
    check(site, run, quiet_from)
    fault = run.faults[0]
    before = oracle.goodput(run, quiet_from, fault.begin, WITHIN_S)
    during = goodputs(run, fault.begin, fault.end)
    after = goodputs(run, fault.end, fault.end + 20)
    print({"before": round(before), "during": during, "after": after})
    back = fault.end + RECOVERY_S
    assert oracle.goodput(run, back, back + 10, WITHIN_S) >= OLD_LEVEL * before, after
    # Half of the capacity is used while it is all there is.
    assert sum(during) / len(during) >= OLD_LEVEL * before / 0.7 / 2, during
