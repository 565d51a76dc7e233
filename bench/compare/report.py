"""From runs to verdicts: medians, ratios of pairs, the table."""

from statistics import median

from rows import CALIBRATION, CALIBRATION_MAX

PEERS = ("nginx", "haproxy", "h2o")
SHARE_MIN = 0.95  # of its core; below, other work on the machine is part of the figures
COLUMNS = ("nginx", "haproxy", "h2o", "weir", "floor")


def medians(runs, key="value"):
    return {name: median(run[key] for run in several) for name, several in runs.items() if several}


def pair_ratio(runs, over, under):
    """The median of the rounds' own ratios, or None when one of the two did not run."""
    pairs = list(zip(runs.get(over, []), runs.get(under, [])))
    if not pairs:
        return None
    return median(a["value"] / b["value"] if b["value"] else float("inf") for a, b in pairs)


def best_peer(row, runs):
    if row.ref != "best":
        return row.ref if runs.get(row.ref) else None
    values = {name: value for name, value in medians(runs).items() if name in PEERS}
    return min(values, key=values.get) if values else None


def faults_of(runs):
    return [f"{name}: {fault}" for name, several in runs.items() for run in several
            for fault in run["faults"]]


def tail_ratios(runs):
    """weir's p99 and p99.9 over the best peer's, medians of the rounds; h2load has none."""
    found = {}
    for key in ("p99_us", "p999_us"):
        values = medians(runs, key)
        peers = [values[name] for name in PEERS if values.get(name)]
        if "weir" in values and peers:
            found[key] = values["weir"] / min(peers)
    return found


def generator_share(runs):
    """The part of its core that the generator had, median of all runs: 1 on a quiet machine."""
    shares = [run["self_ns"] / 1e9 / run["seconds"]
              for several in runs.values() for run in several if run["seconds"]]
    return median(shares) if shares else 0.0


def cpu_summary(row, runs):
    ref = best_peer(row, runs)
    summary = {"row": row.name, "title": row.title, "unit": row.unit, "must": row.must,
               "median": medians(runs), "ref": ref,
               "weir_over_ref": pair_ratio(runs, "weir", ref) if ref else None,
               "musts": [{"peer": peer, "must": must, "ratio": pair_ratio(runs, "weir", peer)}
                         for peer, must in row.musts],
               "weir_over_floor": pair_ratio(runs, "weir", "floor"),
               "floor_over_ref": pair_ratio(runs, "floor", ref) if ref else None,
               "floor_must": row.floor_must, "tail_must": row.tail_must,
               "tail": tail_ratios(runs), "generator_share": generator_share(runs),
               "faults": faults_of(runs)}
    summary["misses"] = misses(summary)
    return summary


def misses(summary):
    """What weir did not reach, each with by how much."""
    found = []

    def compare(what, value, limit):
        if value is not None and limit is not None and value > limit:
            found.append(f"{what} {value:.2f} is {value / limit - 1:.0%} above {limit:.2f}")

    compare(f"weir/{summary['ref']}", summary["weir_over_ref"], summary["must"])
    for also in summary["musts"]:
        compare(f"weir/{also['peer']}", also["ratio"], also["must"])
    compare("weir/floor", summary["weir_over_floor"], summary["floor_must"])
    for key, value in summary["tail"].items():
        compare(key, value, summary["tail_must"])
    return found


def memory_summary(row, runs):
    values = medians(runs)
    weir = values.get("weir")
    over = [] if None in (weir, row.must) or weir <= row.must else [
        f"{weir:.0f} is above {row.must:.0f} bytes"]
    return {"row": row.name, "title": row.title, "unit": "bytes", "must": row.must, "musts": [],
            "median": values, "misses": over, "faults": faults_of(runs)}


def verdict(summary, void):
    if summary["faults"]:
        return "FAULT"
    if void and summary["unit"] != "bytes":
        return "void"
    if "weir" not in summary["median"] or summary["must"] is None:
        return "-"
    if summary["misses"]:
        return "missed"
    ratios = [also["ratio"] for also in summary["musts"]]
    ratios += [] if summary["unit"] == "bytes" else [summary["weir_over_ref"]]
    return "-" if None in ratios else "reached"  # a peer is not there: nothing is known


def number(value, unit):
    if value is None:
        return "-"
    if unit == "s/GiB":
        return f"{value:.3f}"
    return f"{value:,.0f}" if unit == "bytes" else f"{value:.2f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def goal(summary):
    if summary["unit"] == "bytes":
        return number(summary["must"], "bytes")  # "-" where there is none
    extra = f", floor {summary['floor_must']:.2f}" if summary["floor_must"] else ""
    extra += "".join(f", {also['peer']} {also['must']:.2f}" for also in summary["musts"])
    return f"{ratio(summary['must'])}{extra}"


def table_line(summary, void):
    cells = [f"{summary['title'][:38]:38}", f"{summary['unit']:>5}"]
    cells += [f"{number(summary['median'].get(name), summary['unit']):>10}" for name in COLUMNS]
    cells += [f"{ratio(summary.get('weir_over_ref')):>8}", f"{goal(summary):>16}",
              f"{ratio(summary.get('weir_over_floor')):>8}",
              f"{ratio(summary.get('floor_over_ref')):>8}", verdict(summary, void)]
    return " ".join(cells)


def print_table(summaries, calibration):
    void = calibration is None or calibration > CALIBRATION_MAX
    head = [f"{'row':38}", f"{'unit':>5}"] + [f"{name:>10}" for name in COLUMNS]
    head += [f"{'weir/ref':>8}", f"{'must':>16}", f"{'w/floor':>8}", f"{'flr/ref':>8}", "verdict"]
    print("\n" + " ".join(head))
    for summary in summaries:
        print(table_line(summary, void))
    for summary in summaries:
        for also in summary["musts"]:
            print(f"  {summary['row']}: weir/{also['peer']} is {ratio(also['ratio'])}, must "
                  f"{also['must']:.2f}")
        for text in summary["faults"][:4] + summary["misses"]:
            print(f"  {summary['row']}: {text}")
        if summary.get("generator_share", 1) < SHARE_MIN:
            print(f"  {summary['row']}: disturbed, the generator had only "
                  f"{summary['generator_share']:.0%} of its core")
    if calibration is not None:
        print(f"calibration: floor/nginx at 64 connections is {calibration:.2f}, "
              f"{'above' if void else 'within'} {CALIBRATION_MAX:.2f} ({CALIBRATION})"
              + (": the CPU rows are void, the bench measures itself" if void else ""))
    return void


def print_latencies(row, runs):
    """p50/p99/p99.9 of one row, one line for each proxy."""
    for name in runs:
        if runs[name] and "mean_us" in runs[name][0]:
            rps, mean, highest = (medians(runs, key)[name] for key in ("rps", "mean_us", "max_us"))
            print(f"  {row.name:12} {name:8} {rps:9.0f} req/s   mean/max us "
                  f"{mean:.0f}/{f'{highest:.0f}' if highest else '-'}")
        elif runs[name]:
            p50, p99, p999 = (medians(runs, key)[name] for key in ("p50_us", "p99_us", "p999_us"))
            rps = median(run["requests"] / max(run["seconds"], 1e-9) for run in runs[name])
            print(f"  {row.name:12} {name:8} {rps:9.0f} req/s   p50/p99/p99.9 us "
                  f"{p50:.0f}/{p99:.0f}/{p999:.0f}")
