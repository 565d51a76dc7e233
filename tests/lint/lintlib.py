"""What the lints share: the tree, a C source without comments and strings, the command line.

A lint is a file lint_<name>.py with run(tree) -> list of Fault; ctest runs each (label lint).
Exceptions: a line, or the comment line above it, may say `lint: allow NAME: reason`.
It does not parse C: it blanks comments, strings and preprocessor lines and counts braces.
"""
import argparse
import pathlib
import re
import sys
from typing import NamedTuple

SOURCE_DIRS = ("src", "include")
ALLOW = re.compile(r"lint: allow (\w+): \S")
LITERAL = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)
PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


class Fault(NamedTuple):
    path: str
    line: int
    text: str  # what is wrong, then what to use


class Tree:
    """The checkout at root; build is the build directory or None."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root)
        self.build = pathlib.Path(build) if build else None

    def files(self, tops, suffixes):
        """Relative paths below the directories tops with one of the suffixes, sorted."""
        found = []
        for top in tops:
            base = self.root / top
            paths = base.rglob("*") if base.is_dir() else [base]
            found += [p for p in paths if p.suffix in suffixes and p.is_file()]
        return sorted(str(p.relative_to(self.root)) for p in found)

    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8", errors="replace")


def blank(match):
    """Replaces a match by spaces, line breaks kept, so that offsets and lines stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def code_only(text, keep_preprocessor=False):
    """The text with comments, string and character literals blanked; same lines and columns."""
    text = LITERAL.sub(blank, text)
    return text if keep_preprocessor else PREPROCESSOR.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def layer_of(path):
    """The layer of a path below src/ or include/weir/, or None."""
    match = re.match(r"(?:src|include/weir)/([a-z0-9_]+)/", path)
    return match.group(1) if match else None


def allowed_here(lines, number, name):
    """True if line number (from 1) or the one above it carries an exception for name."""
    for text in lines[max(0, number - 2) : number]:
        match = ALLOW.search(text)
        if match and match.group(1) == name:
            return True
    return False


def read_table(path, columns):
    r"""The rows of a `a | b | c` table beside the lints; `\|` is a bar, `#` lines are skipped."""
    rows = []
    for text in pathlib.Path(__file__).with_name(path).read_text(encoding="utf-8").splitlines():
        if text.strip() and not text.startswith("#"):
            row = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", text)]
            assert len(row) == columns, f"{path}: {text}"
            rows.append(row)
    return rows


def main(run):
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=str(pathlib.Path(__file__).resolve().parents[2]))
    parser.add_argument("--build", default=None)
    options = parser.parse_args()
    faults = run(Tree(options.root, options.build))
    for fault in sorted(faults):
        print(f"{fault.path}:{fault.line}: {fault.text}")
    print(f"{len(faults)} faults")
    sys.exit(1 if faults else 0)
