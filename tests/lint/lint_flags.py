#!/usr/bin/python3
"""Flags of a set (an enum of which three values or more are stated powers of two) are powers of
two or unions of them, each once: two branches that take the same bit merge without a conflict."""
import re

from lintlib import SOURCE_DIRS, Fault, Tree, allowed_here, code_only, line_of, main

ENUM = re.compile(r"\benum\s+\w+\s*(?::\s*\w+\s*)?\{([^{}]*)\}")
VALUE = re.compile(r"\b([A-Z][A-Z0-9_]*)\s*=\s*(0x[0-9a-fA-F]+|\d+)u?(\s*<<\s*\d+)?\s*(?=,|$)")


def values_of(text, match):
    """(name, value, line) of the enumerators that are stated as numbers."""
    found = []
    for row in VALUE.finditer(match.group(1)):
        value = int(row.group(2), 0) << int((row.group(3) or "<<0").strip(" <"))
        found.append((row.group(1), value, line_of(text, match.start(1) + row.start(1))))
    return found


def is_flag(value):
    return value > 0 and value & (value - 1) == 0


def check_set(rows):
    """(line, what is wrong) of a set of flags."""
    flags = [row for row in rows if is_flag(row[1])]
    if len(flags) < 3 or 3 in (row[1] for row in rows):
        return
    seen = {}
    for name, value, line in flags:
        if value in seen:
            yield line, f"{name} has the bit of {seen[value]}: take a free one"
        seen.setdefault(value, name)


def run(tree: Tree):
    faults = []
    for path in tree.files(SOURCE_DIRS, {".c", ".h"}):
        text, lines = code_only(tree.text(path)), tree.text(path).splitlines()
        for match in ENUM.finditer(text):
            for line, problem in check_set(values_of(text, match)):
                if not allowed_here(lines, line, "flags"):
                    faults.append(Fault(path, line, problem))
    return faults


if __name__ == "__main__":
    main(run)
