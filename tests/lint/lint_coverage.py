#!/usr/bin/python3
"""Every option of options.def is set by a test that runs weir (tests/e2e, tests/conformance).

What counts: the option's last component as a key of a dict in Python, or as a keyword argument of
a helper, with a value that is not None. The keys around it in the same literal must be those of
the option's path (`*` is any name, or an element of a list); where the literal ends below the
section, as in rated({"burst": 3}), the file must use the components above elsewhere as keys.
Text of configurations does not count: most of it is there to be refused. Whether the test checks
what the option does is for people to judge. Planned keys (LATER) are no options. What no test can
set stands in coverage.txt (which need not exist) as `path | reason`; a row without a reason, or
that is not needed, is a fault too.
"""
import ast

from lint_tables import rows_of
from lintlib import Fault, Tree, main

OPTIONS = "include/weir/config/options.def"
WHERE = ("tests/e2e", "tests/conformance")
EXCEPTIONS = "tests/lint/coverage.txt"
METHODS = ("change",)  # of what is called by attribute, that whose keywords are keys
THROUGH = (ast.List, ast.Dict, ast.Call, ast.IfExp)  # what a literal goes on in; no tuple is one


def is_helper(call):
    """True if the keywords of a call are taken for keys of a configuration."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in METHODS
    return isinstance(call.func, ast.Name)


def pairs_of(node):
    """(key, value) of a group: of a dict, a helper's keywords, conf["key"] = value."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
    elif isinstance(node, ast.Call) and is_helper(node):
        pairs = ((ast.Constant(word.arg), word.value) for word in node.keywords)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        pairs = [(node.targets[0].slice, node.value)]
    else:
        pairs = ()
    for key, item in pairs:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, item


def chains_of(node, above=()):
    """The keys from the outermost literal down to each key that has a value, as tuples."""
    pairs = list(pairs_of(node))
    names = {id(item): above + (key,) for key, item in pairs}
    for key, item in pairs:
        if not (isinstance(item, ast.Constant) and item.value is None):
            yield above + (key,)
    inside = above if isinstance(node, THROUGH) else ()
    for child in ast.iter_child_nodes(node):
        child = child.value if isinstance(child, ast.keyword) else child
        yield from chains_of(child, names.get(id(child), inside))


def unreached(path, chain):
    """The components of path above what chain names; None if chain is not the path's end."""
    if not chain or not path:
        return None if chain else path
    if path[-1] == "*":  # a name, or one that Python computes
        named = unreached(path[:-1], chain[:-1])
        return unreached(path[:-1], chain) if named is None else named
    return unreached(path[:-1], chain[:-1]) if path[-1] == chain[-1] else None


def sets(path, chains, keys):
    """True if one of the chains of a file, whose keys are these, sets the option."""
    for chain in chains:
        above = unreached(path, chain) if chain[-1] == path[-1] else None
        if above is not None and all(part == "*" or part in keys for part in above):
            return True
    return False


def options_of(text):
    """(path, its components, line) of each option; an element of a list has no component."""
    rows = list(rows_of(text, "OPTION", 3))
    kinds = [kind for kind, _ in rows_of(text, "OPTION", 4)]
    lists = [path + ".*" for (path, _), kind in zip(rows, kinds) if kind == "ROWS"]
    for path, line in rows:
        short = path
        for each in sorted(lists, key=len, reverse=True):
            short = each[:-2] + short[len(each):] if short.startswith(each) else short
        yield path, tuple(short.split(".")), line


def exceptions_of(tree):
    """{path: (reason, line)}; there need not be any."""
    rows = {}
    if (tree.root / EXCEPTIONS).is_file():
        for number, text in enumerate(tree.text(EXCEPTIONS).splitlines(), 1):
            if text.strip() and not text.startswith("#"):
                path, _, reason = (cell.strip() for cell in text.partition("|"))
                rows[path] = (reason, number)
    return rows


def check_exceptions(exceptions, covered):
    for path, (reason, line) in exceptions.items():
        if covered.get(path) is None:
            yield Fault(EXCEPTIONS, line, f"{path} is no option: remove the row")
        elif covered[path]:
            yield Fault(EXCEPTIONS, line, f"{path} is set by a test: remove the row")
        elif not reason:
            yield Fault(EXCEPTIONS, line, f"{path}: say why no test can set it")


def run(tree: Tree):
    if not (tree.root / OPTIONS).is_file():
        return []
    files = [set(chains_of(ast.parse(tree.text(path)))) for path in tree.files(WHERE, {".py"})]
    files = [(chains, {key for chain in chains for key in chain}) for chains in files]
    exceptions, covered, faults = exceptions_of(tree), {}, []
    for path, components, line in options_of(tree.text(OPTIONS)):
        covered[path] = any(sets(components, *each) for each in files)
        if not covered[path] and path not in exceptions:
            faults.append(Fault(OPTIONS, line, f"{path} is set by no test: write one"))
    return faults + list(check_exceptions(exceptions, covered))


if __name__ == "__main__":
    main(run)
