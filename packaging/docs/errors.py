#!/usr/bin/python3
"""Makes errors.md from include/weir/base/end.def: --write replaces it, else it is printed.

tests/e2e/test_docs.py fails when the file is not what this prints.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "include/weir/base/end.def"
STRING = r'"(?:[^"\\\n]|\\.)*"'
ROW = re.compile(r'^END\(\w+, "([^"]+)", (\d+), \w+, (\w+), (true|false),\s+((?:%s\s*)+)\)'
                 % STRING, re.MULTILINE)
HEAD = """# End words

Each request ends with one word of this closed list. It stands under `weir.end` in the access
log, as label `end` of `weir_request_end_total`, and in `Proxy-Status` and the body of an answer
that weir makes itself. `ok` is also what an endpoint's own 5xx ends with: the word says what
weir did. Status -: nothing can be answered any more, or nothing went wrong. 499 stands in the
log only: the client left.

*again* marks causes after which the request may be sent to another connection (retries.md,
"Retries").

Made from `include/weir/base/end.def` by packaging/docs/errors.py.

"""


def sentence_of(literals):
    """The text of C string literals, one behind the other, as a cell of a table has it."""
    text = "".join(each[1:-1] for each in re.findall(STRING, literals))
    assert set(re.findall(r"\\(.)", text)) <= {'"', "\\"}, "end.def: an escape in %s" % literals
    return re.sub(r"\\(.)", r"\1", text).replace("|", "\\|")


def rows(text):
    """(word, status, level, again, sentence) of each row, in the table's order."""
    found = ROW.findall(text)
    assert len(found) == len(re.findall(r"^END\(", text, re.MULTILINE)), "end.def: unread rows"
    return [(*row[:4], sentence_of(row[4])) for row in found]


def page(text):
    parts, party = [HEAD], None
    for word, status, _level, again, sentence in rows(text):
        if word.split(".")[0] != party:
            party = word.split(".")[0]
            parts.append("%s## %s\n\n| word | status | | |\n|---|---|---|---|\n"
                         % ("" if len(parts) == 1 else "\n", party))
        parts.append("| `%s` | %s | %s | %s |\n" % (
            word, "-" if status == "0" else status, "again" if again == "true" else "", sentence))
    return "".join(parts)


if __name__ == "__main__":
    made = page(TABLE.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--write"]:
        (HERE / "errors.md").write_text(made, encoding="utf-8")
    else:
        sys.stdout.write(made)
