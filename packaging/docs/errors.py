#!/usr/bin/python3
"""Makes errors.md from include/weir/base/end.def: --write replaces it, else it is printed.

tests/e2e/test_docs.py fails when the file is not what this prints.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "include/weir/base/end.def"
ROW = re.compile(r'^END\(\w+, "([^"]+)", (\d+), \w+, (\w+), (true|false), "([^"]*)"\)',
                 re.MULTILINE)
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


def rows():
    """(word, status, level, again, sentence) of each row, in the table's order."""
    text = TABLE.read_text(encoding="utf-8")
    found = ROW.findall(text)
    assert len(found) == len(re.findall(r"^END\(", text, re.MULTILINE)), "end.def: unread rows"
    return found


def page():
    parts, party = [HEAD], None
    for word, status, _level, again, sentence in rows():
        if word.split(".")[0] != party:
            party = word.split(".")[0]
            parts.append("%s## %s\n\n| word | status | | |\n|---|---|---|---|\n"
                         % ("" if len(parts) == 1 else "\n", party))
        parts.append("| `%s` | %s | %s | %s |\n" % (
            word, "-" if status == "0" else status, "again" if again == "true" else "", sentence))
    return "".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        (HERE / "errors.md").write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
