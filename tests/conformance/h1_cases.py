"""Reads h1_cases.def and its further parts, the table of raw HTTP/1.x messages and what weir makes
of them.

cases() gives one Case per row; bytes are expanded and ready to send. The columns are explained at
the top of the table. It judges nothing: the callers in this directory do.
"""

import pathlib
import re
from typing import List, NamedTuple, Optional

PARTS = [pathlib.Path(__file__).with_name(name)
         for name in ("h1_cases.def", "h1_cases_body.def", "h1_cases_response.def")]


class Case(NamedTuple):
    kind: str  # REQUEST_OK, REQUEST_BAD, REQUEST_CUT, RESPONSE_OK, RESPONSE_BAD, RESPONSE_CUT
    name: str
    rfc: str
    raw: bytes
    method: str = "GET"  # of the request that a response answers
    count: int = 1  # REQUEST_OK: requests forwarded
    sees: tuple = ()  # whole lines of what is passed on
    body: Optional[bytes] = None  # the decoded body of the only message, when the row tells it
    hides: tuple = ()  # lower-case texts that are passed on nowhere
    end: str = ""  # the end word
    status: int = 0  # what is answered; 0: nothing can be


def _expand(raw: bytes) -> bytes:
    return re.sub(rb"(?s)<<(\d+)\*(.)>>", lambda m: m[2] * int(m[1]), raw)


def _sees(text: bytes):
    """Splits the column at its last part "=body", which may hold any byte."""
    lines, body = text, None
    at = 0 if text.startswith(b"=") else text.find(b"\n=") + 1
    if at or text.startswith(b"="):
        lines, body = text[:at], text[at + 1 :]
    return tuple(line for line in lines.split(b"\n") if line), body


def cases() -> List[Case]:
    """All rows, in order."""
    text = "\n".join(part.read_text(encoding="ascii") for part in PARTS)
    text = re.sub(r"(?ms)^/\*.*?\*/$", "", text)
    rows: List[Case] = []

    def raw_of(string: str) -> bytes:
        return _expand(string.encode("latin-1"))

    def ok(kind, name, rfc, raw, sees, hides, **more):
        lines, body = _sees(sees.encode("latin-1"))
        hidden = tuple(h.lower() for h in hides.encode("latin-1").split(b"\n") if h)
        rows.append(Case(kind, name, rfc, raw_of(raw), sees=lines, body=body, hides=hidden,
                         **more))

    names = {
        "REQUEST_OK": lambda name, rfc, count, raw, sees, hides: ok(
            "REQUEST_OK", name, rfc, raw, sees, hides, count=count),
        "REQUEST_BAD": lambda name, rfc, raw, end, status: rows.append(
            Case("REQUEST_BAD", name, rfc, raw_of(raw), end=end, status=status)),
        "REQUEST_CUT": lambda name, rfc, raw: rows.append(
            Case("REQUEST_CUT", name, rfc, raw_of(raw))),
        "RESPONSE_OK": lambda name, rfc, method, raw, sees, hides: ok(
            "RESPONSE_OK", name, rfc, raw, sees, hides, method=method),
        "RESPONSE_BAD": lambda name, rfc, method, raw, end, status: rows.append(
            Case("RESPONSE_BAD", name, rfc, raw_of(raw), method=method, end=end, status=status)),
        "RESPONSE_CUT": lambda name, rfc, method, raw: rows.append(
            Case("RESPONSE_CUT", name, rfc, raw_of(raw), method=method)),
    }
    exec(compile(text, "h1_cases", "exec"), {"__builtins__": {}}, names)  # our own file
    return rows


if __name__ == "__main__":
    for case in cases():
        print(case.kind, case.name, case.rfc, case.end or "-", case.status, len(case.raw))
