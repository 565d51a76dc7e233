#!/usr/bin/python3
"""A layer includes only the layers that src/layers.txt names, no other layer's private files."""
import re

from lintlib import SOURCE_DIRS, Fault, Tree, layer_of, line_of, main

INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*\"([^\"\n]+)\"", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def read_layers(tree: Tree):
    """layers.txt as {layer: set of layers it may include}."""
    layers = {}
    for text in tree.text("src/layers.txt").splitlines():
        match = re.match(r"([a-z]+):(.*)$", text)
        if match:
            layers[match.group(1)] = set(match.group(2).split())
    return layers


def check_include(tree, layers, path, target):
    """The fault of one include as text, or None."""
    layer = layer_of(path)
    match = re.match(r"weir/([a-z0-9_]+)/", target)
    if match:
        other = match.group(1)
        if other == layer or other in layers[layer]:
            return None
        return (
            f'layer {layer} may not include "{target}": src/layers.txt allows '
            f"{' '.join(sorted(layers[layer])) or 'nothing'}; move the need up or pass it in"
        )
    beside = (tree.root / path).parent / target
    below = tree.root / "src" / target
    if beside.is_file() or (below.is_file() and layer_of(f"src/{target}") == layer):
        return None
    return f'"{target}" is private to another layer or missing: use "weir/<layer>/...h"'


def run(tree: Tree):
    layers = read_layers(tree)
    faults = []
    for path in tree.files(SOURCE_DIRS, {".c", ".h", ".def"}):
        layer = layer_of(path)
        if layer not in layers:
            faults.append(Fault(path, 1, "not in a layer of src/layers.txt: move it into one"))
            continue
        text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), tree.text(path))
        for match in INCLUDE.finditer(text):
            problem = check_include(tree, layers, path, match.group(1))
            if problem:
                faults.append(Fault(path, line_of(text, match.start(1)), problem))
    return faults


if __name__ == "__main__":
    main(run)
