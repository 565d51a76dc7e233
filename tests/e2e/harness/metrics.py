"""Prometheus text, parsed strictly (the exposition format, version 0.0.4)."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(r"(%s)(?:\{((?:%s)(?:,%s)*,?)?\})? (\S+)\Z" % (NAME, LABEL, LABEL))
KINDS = ("counter", "gauge", "histogram", "summary", "untyped")


class Metrics:
    """samples: {name: {frozenset(labels.items()): value}}; types: {family: kind}."""

    def __init__(self, text):
        self.samples, self.types, self.helps = {}, {}, {}
        assert text.endswith("\n"), "the last line has no line feed"
        current, closed = None, set()
        for line in text[:-1].split("\n"):
            if line.startswith("# "):
                family = self.comment(line)
            else:
                family = self.sample(line)
            if family != current:
                assert family not in closed, "%s is not in one group" % family
                closed.add(current)
                current = family

    def comment(self, line):
        match = re.match(r"# (HELP|TYPE) (%s) (.*)\Z" % NAME, line)
        assert match, "comment: %r" % line
        table = self.helps if match[1] == "HELP" else self.types
        assert match[2] not in table, "repeated: %r" % line
        assert match[1] == "HELP" or match[3] in KINDS, line
        table[match[2]] = match[3]
        return match[2]

    def sample(self, line):
        match = SAMPLE.match(line)
        assert match, "sample: %r" % line
        name, labels, value = match[1], match[2] or "", float(match[3])
        pairs = re.findall(r'([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"', labels)
        assert len({key for key, _ in pairs}) == len(pairs), "repeated label: %r" % line
        series = self.samples.setdefault(name, {})
        key = frozenset(pairs)
        assert key not in series, "repeated series: %r" % line
        series[key] = value
        family = self.family(name)
        assert family in self.types and family in self.helps, "no TYPE or HELP before %r" % line
        if self.types[family] != "gauge":
            assert value >= 0, line
        return family

    def family(self, name):
        for suffix in ("_bucket", "_sum", "_count"):
            base = name[: -len(suffix)]
            if name.endswith(suffix) and self.types.get(base) in ("histogram", "summary"):
                return base
        return name

    def get(self, name, **labels):
        """Sum over the series of name that carry these labels; 0 where there is none."""
        want = set(labels.items())
        return sum(v for key, v in self.samples.get(name, {}).items() if want <= key)

    def series(self, name, **labels):
        want = set(labels.items())
        return {key: v for key, v in self.samples.get(name, {}).items() if want <= key}

    def check_histograms(self):
        """Buckets rise, the last is +Inf and equals _count."""
        for family in [name for name, kind in self.types.items() if kind == "histogram"]:
            groups = {}
            for key, value in self.samples.get(family + "_bucket", {}).items():
                labels = dict(key)
                bound = float(labels.pop("le"))
                groups.setdefault(frozenset(labels.items()), []).append((bound, value))
            counts = self.samples.get(family + "_count", {})
            assert set(groups) == set(counts) == set(self.samples.get(family + "_sum", {})), family
            for key, buckets in groups.items():
                buckets.sort()
                numbers = [value for _, value in buckets]
                assert numbers == sorted(numbers), "%s %s" % (family, buckets)
                assert buckets[-1] == (float("inf"), counts[key]), "%s %s" % (family, buckets)
