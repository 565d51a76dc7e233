#!/usr/bin/python3
"""Outside libraries are seen only where borders.txt allows their headers."""
import fnmatch
import re

from lintlib import SOURCE_DIRS, Fault, Tree, allowed_here, line_of, main, read_table

INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)


def may_include(path, places):
    """places is a list of patterns; a list of `!` patterns means everywhere but there."""
    denied = [place[1:] for place in places if place.startswith("!")]
    if denied:
        return not any(fnmatch.fnmatch(path, place) for place in denied)
    return any(fnmatch.fnmatch(path, place) for place in places)


def run(tree: Tree):
    rows = [(row[0].split(), row[1].split(), row[2]) for row in read_table("borders.txt", 3)]
    faults = []
    for path in tree.files(SOURCE_DIRS, {".c", ".h", ".def"}):
        source = tree.text(path)
        lines = source.splitlines()
        for match in INCLUDE.finditer(source):
            header, line = match.group(1), line_of(source, match.start(1))
            for headers, places, instead in rows:
                named = any(fnmatch.fnmatch(header, pattern) for pattern in headers)
                excused = allowed_here(lines, line, "include")
                if named and not may_include(path, places) and not excused:
                    text = f"<{header}> is not for this file: {instead}"
                    faults.append(Fault(path, line, text))
    return faults


if __name__ == "__main__":
    main(run)
