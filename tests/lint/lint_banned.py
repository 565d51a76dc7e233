#!/usr/bin/python3
"""Calls that have a better replacement here (banned.txt) do not stand in src/ and include/."""
import re

from lintlib import SOURCE_DIRS, Fault, Tree, allowed_here, code_only, line_of, main, read_table


def run(tree: Tree):
    rows = {row[0]: row for row in read_table("banned.txt", 3)}
    # Not a member (x.free, x->free): those are other functions.
    call = re.compile(r"(?<![\w.>])(" + "|".join(map(re.escape, rows)) + r")\s*\(")
    faults = []
    for path in tree.files(SOURCE_DIRS, {".c", ".h", ".def"}):
        text = tree.text(path)
        lines = text.splitlines()
        code = code_only(text, keep_preprocessor=True)
        for match in call.finditer(code):
            name, places, instead = rows[match.group(1)]
            line = line_of(code, match.start())
            if places != "-" and any(path.startswith(place) for place in places.split()):
                continue
            if not allowed_here(lines, line, name):
                faults.append(Fault(path, line, f"{name}() is banned here: use {instead}"))
    return faults


if __name__ == "__main__":
    main(run)
