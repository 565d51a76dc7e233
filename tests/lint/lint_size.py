#!/usr/bin/python3
"""Functions, files, headers and lines stay short (STYLE.md): the limits stand in the constants."""
import re
import statistics

from lintlib import Fault, Tree, code_only, line_of, main

FUNCTION_LINES = 70  # "under 70"
FUNCTION_SHARE = 0.03  # of functions may be above
FUNCTION_MEDIAN = 15
FILE_LINES = 1200
HEADER_LINES = 150
LINE_COLUMNS = 100  # "under 100"
CODE_DIRS = ("src", "include", "tests", "fuzz", "bench", "packaging", "CMakeLists.txt")
LINE_SUFFIXES = {".c", ".h", ".py", ".sh", ".cmake"}

CONTROL = {"if", "for", "while", "switch", "do", "else", "return", "sizeof"}


def functions(text):
    """(name, first line, length in lines) of each function definition, by counting braces."""
    code = code_only(text)
    found, depth, start, head_end = [], 0, 0, 0
    name = None
    for match in re.finditer(r"[{};]", code):
        char = match.group(0)
        if char == "{":
            if depth == 0:
                head = code[start : match.start()]
                call = re.search(r"(\w+)\s*\(", head)
                # A definition's head ends with its parameter list; `= {` and `struct x {` do not.
                is_function = call and head.rstrip().endswith(")") and "=" not in head
                name = call.group(1) if is_function and call.group(1) not in CONTROL else None
                head_end = start + len(head) - len(head.lstrip())
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                if name:
                    first = line_of(code, head_end)
                    found.append((name, first, line_of(code, match.start()) - first + 1))
                start, name = match.end(), None
        elif depth == 0:
            start = match.end()
    return found


def check_functions(tree: Tree):
    every, faults = [], []
    for path in tree.files(("src", "include"), {".c", ".h"}):
        for name, line, length in functions(tree.text(path)):
            every.append((length, path, line, name))
    if not every:
        return faults
    lengths = [row[0] for row in every]
    over = [row for row in every if row[0] >= FUNCTION_LINES]
    median = statistics.median(lengths)
    share = len(over) / len(every)
    print(f"{len(every)} functions, median {median} lines, {share:.1%} above the limit")
    if share > FUNCTION_SHARE:
        faults += [
            Fault(path, line, f"{name} has {length} lines ({share:.1%} of functions are so long, "
                  f"allowed {FUNCTION_SHARE:.0%}): split it into steps, or make it a table")
            for length, path, line, name in over
        ]
    if median > FUNCTION_MEDIAN:
        faults.append(Fault("src", 1, f"the median function has {median} lines, "
                            f"at most {FUNCTION_MEDIAN}: split the long ones"))
    return faults


def check_files(tree: Tree):
    faults = []
    for path in tree.files(CODE_DIRS, LINE_SUFFIXES | {".def", ".txt"}):
        lines = tree.text(path).splitlines()
        suffix = path[path.rfind(".") :]
        if len(lines) >= FILE_LINES:
            faults.append(Fault(path, FILE_LINES, f"{len(lines)} lines, limit {FILE_LINES}: "
                                "split the file by subject"))
        if suffix == ".h" and path.startswith(("src/", "include/")) and len(lines) >= HEADER_LINES:
            faults.append(Fault(path, HEADER_LINES, f"a header of {len(lines)} lines, limit "
                                f"{HEADER_LINES}: split it, or move a table into a .def file"))
        if suffix in LINE_SUFFIXES or path.endswith("CMakeLists.txt"):
            faults += [
                Fault(path, number, f"{len(text)} columns, limit {LINE_COLUMNS - 1}: wrap it")
                for number, text in enumerate(lines, 1)
                if len(text) >= LINE_COLUMNS
            ]
    return faults


def run(tree: Tree):
    return check_functions(tree) + check_files(tree)


if __name__ == "__main__":
    main(run)
