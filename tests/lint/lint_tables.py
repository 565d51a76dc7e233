#!/usr/bin/python3
"""No dead rows: what a .def table declares (a cause, a metric, an option) is used (tables.txt)."""
import re

from lintlib import LITERAL, Fault, Tree, blank, code_only, line_of, main, read_table


def rows_of(text, macro, argument):
    """(id, line) of each `MACRO(a, b, ...)` row that begins a line."""
    text = LITERAL.sub(lambda m: blank(m) if m.group(0).startswith("/") else m.group(0), text)
    for match in re.finditer(rf"^{macro}\(([^\n]*)", text, re.MULTILINE):
        cells = re.findall(r"\"(?:\\.|[^\"\\])*\"|[^,()\s][^,()]*", match.group(1))
        yield cells[argument - 1].strip().strip('"'), line_of(text, match.start())


def run(tree: Tree):
    faults = []
    for table, macro, argument, pattern, where, problem in read_table("tables.txt", 6):
        if not (tree.root / table).is_file():
            continue
        used = "\n".join(
            code_only(tree.text(path))
            for path in tree.files(where.split(), {".c", ".h", ".def"})
            if path != table
        )
        for name, line in rows_of(tree.text(table), macro, int(argument)):
            if not re.search(pattern.replace("{}", re.escape(name)), used):
                faults.append(Fault(table, line, f"{name} {problem}"))
    return faults


if __name__ == "__main__":
    main(run)
