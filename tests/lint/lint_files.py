#!/usr/bin/python3
"""The tree has the fixed shape, and no file is forgotten.

Every source is in a target, every unit test mirrors a source, every fuzz target has seeds,
src/README.md knows every layer, no package registry is named.
"""
import json
import pathlib
import re

from lint_layers import read_layers
from lintlib import Fault, Tree, layer_of, line_of, main

TOP = {
    "CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE", "include", "src", "conf",
    "tests", "fuzz", "bench", "packaging", "build",
}
SKIP_DIRS = {"build", ".git", "__pycache__", ".hypothesis", ".pytest_cache", ".cache"}
# In two parts each, so that this file does not name one itself.
REGISTRIES = [
    ("debian", "org"), ("ubuntu", "com"), ("pypi", "org"), ("pythonhosted", "org"),
    ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"), ("golang", "org"),
    ("rubygems", "org"), ("docker", "io"), ("docker", "com"), ("ghcr", "io"), ("quay", "io"),
    ("gcr", "io"), ("maven", "org"), ("packagist", "org"), ("nodesource", "com"),
    ("alpinelinux", "org"), ("fedoraproject", "org"),
]
BINARY_DIRS = ("fuzz/corpus/", "fuzz/regress/")


def check_top(tree: Tree):
    return [
        Fault(path.name, 1, "the top level is fixed (DESIGN.md section 3): move it below one of "
              + ", ".join(sorted(TOP - {"build"})))
        for path in tree.root.iterdir()
        if path.name not in TOP and not path.name.startswith(".")
    ]


def check_targets(tree: Tree):
    """Every .c below src/ is compiled in this build (compile_commands.json)."""
    if tree.build is None:
        return []
    commands = json.loads((tree.build / "compile_commands.json").read_text(encoding="utf-8"))
    compiled = {str(pathlib.Path(row["file"]).resolve()) for row in commands}
    return [
        Fault(path, 1, "in no target: sources stand directly in src/<layer>/, see layers.txt")
        for path in tree.files(("src",), {".c"})
        if str((tree.root / path).resolve()) not in compiled
    ]


def check_unit_tests(tree: Tree):
    """tests/unit/<layer>/test_X.c mirrors src/<layer>/X.c or include/weir/<layer>/X.h."""
    faults = []
    for path in tree.files(("tests/unit",), {".c"}):
        match = re.fullmatch(r"tests/unit/([a-z0-9_]+)/test_([a-z0-9_]+)\.c", path)
        if not match:
            faults.append(Fault(path, 1, "unit tests are tests/unit/<layer>/test_<file>.c; "
                                "helpers go to tests/support/"))
            continue
        layer, name = match.groups()
        if not any((tree.root / place).is_file()
                   for place in (f"src/{layer}/{name}.c", f"include/weir/{layer}/{name}.h")):
            faults.append(Fault(path, 1, f"no src/{layer}/{name}.c: name the test after a source"))
    return faults


def check_fuzz(tree: Tree):
    """Every fuzz target has seeds, and no corpus is without its target."""
    faults = []
    names = {pathlib.Path(p).stem.removeprefix("fuzz_")
             for p in tree.files(("fuzz",), {".c"}) if p.startswith("fuzz/fuzz_")}
    for name in sorted(names):
        corpus = tree.root / "fuzz/corpus" / name
        if not corpus.is_dir() or not any(corpus.iterdir()):
            text = f"no seeds: add files to fuzz/corpus/{name}/"
            faults.append(Fault(f"fuzz/fuzz_{name}.c", 1, text))
    for place in ("corpus", "regress"):
        base = tree.root / "fuzz" / place
        for path in sorted(base.iterdir()) if base.is_dir() else []:
            if path.name not in names:
                faults.append(Fault(f"fuzz/{place}/{path.name}", 1,
                                    f"belongs to no target: there is no fuzz/fuzz_{path.name}.c"))
    return faults


def check_map(tree: Tree):
    """src/README.md mentions every layer that has files, and every layer has a row."""
    faults = []
    layers = read_layers(tree)
    readme = tree.text("src/README.md") if (tree.root / "src/README.md").is_file() else ""
    for layer in layers:
        if not re.search(rf"\b{layer}/", readme):
            faults.append(Fault("src/README.md", 1, f"says nothing of {layer}/: add it"))
    for path in tree.files(("src", "include"), {".c", ".h", ".def"}):
        if layer_of(path) not in layers:
            faults.append(Fault(path, 1, "its layer is not in src/layers.txt"))
    return faults


def check_registries(tree: Tree):
    pattern = re.compile(
        r"\b(?:[\w-]+\.)*(?:" + "|".join(rf"{a}\.{b}" for a, b in REGISTRIES) + r")\b"
    )
    faults = []
    for path in sorted(tree.root.rglob("*")):
        name = str(path.relative_to(tree.root))
        if set(path.relative_to(tree.root).parts) & SKIP_DIRS or name.startswith(BINARY_DIRS):
            continue
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        faults += [
            Fault(name, line_of(text, match.start()), "names a package registry: read the address "
                  "from the machine (packaging/deps/lib.sh, archive_address)")
            for match in pattern.finditer(text)
        ]
    return faults


def run(tree: Tree):
    checks = (check_top, check_targets, check_unit_tests, check_fuzz, check_map, check_registries)
    return [fault for check in checks for fault in check(tree)]


if __name__ == "__main__":
    main(run)
