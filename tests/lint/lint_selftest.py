#!/usr/bin/python3
"""The lints can fail: each is run over a small clean tree, then over that tree with one fault.

Every row of CASES is one fault: the lint that must see it, the file, its text, and what the
message must contain. A row that puts nothing wrong in place expects no fault (None).
"""
import importlib
import pathlib
import sys
import tempfile

from lintlib import Fault, Tree

OPTIONS = """/* OPTION(ID, SCOPE, "path", TYPE) */
OPTION(USER, ROOT, "process.user", TEXT, "x/*")
OPTION(DRAIN, ROOT, "process.drain", TEXT)
OPTION(POOLS, ROOT, "pools", MAP)
OPTION(LIMIT, POOL, "pools.*.limits.headers", COUNT)
OPTION(ROUTES, ROOT, "routes", ROWS)
OPTION(PATH, ROUTE, "routes.*.match.path", PATH)
LATER("pools.*.tls") /* planned */
"""
OPTIONS_TEST = """
def limited(**limits):
    return {"process": {"user": "a"}, "pools": {"app": {"limits": limits}}}
weir({**limited(headers=3), "routes": [{"match": {"path": "/"}}]})
"""
E2E, TABLE = "tests/e2e/test_a.py", "include/weir/config/options.def"
SPARED = "tests/lint/coverage.txt"
LONG = "int wide_function(int a) {\n" + "  a++;\n" * 80 + "  return a;\n}\n"
CLEAN = {
    "src/layers.txt": "base:\nhttp: base\nio: base\nconfig: base\nmain: base http io config\n",
    "src/README.md": "base/ http/ io/ config/ main/\n",
    "src/base/span.c": '#include "weir/base/span.h"\n/* malloc(1) in a comment */\n',
    "src/base/span_priv.h": "#define SPAN_TEXT \"strcpy(a, b)\"\n",
    "include/weir/base/span.h": "int span_try(int a);\n",
    "src/http/h1.c": '#include "weir/base/span.h"\nint h1_try(int a) {\n  return a;\n}\n',
    "include/weir/base/end.def": '/* END(id, "word") */\nEND(OK, "ok")\n',
    "src/base/end.c": "int e = END_OK;\n",
    "tests/unit/http/test_h1.c": "int main(void) { return 0; }\n",
    "fuzz/fuzz_h1.c": "int x;\n",
    "fuzz/corpus/h1/1": "GET",
    TABLE: OPTIONS,
    E2E: OPTIONS_TEST,
    SPARED: "# path | reason\nprocess.drain | why\n",
}
CASES = [
    ("layers", "src/base/a.c", '#include "weir/http/h1.h"\n', 'may not include "weir/http/h1.h"'),
    ("layers", "src/http/a.c", '#include "base/span_priv.h"\n', "private to another layer"),
    ("layers", "include/weir/base/a.h", '#include "weir/io/loop.h"\n', "may not include"),
    ("layers", "src/http/a.c", '/* #include "weir/io/loop.h" */\n', None),
    ("banned", "src/http/a.c", "void f(void) { strcpy(a, b); }\n", "strcpy() is banned"),
    ("banned", "src/http/a.c", "void *f(void) { return malloc(1); }\n", "mem_alloc"),
    ("banned", "src/http/a.c", "long f(void) { return time(0); }\n", "clock"),
    ("banned", "src/io/a.c", "#define P(x) printf(x)\n", "printf() is banned"),
    ("banned", "src/base/a.c", "void *f(void) { return malloc(1); }\n", None),
    ("banned", "src/http/a.c", "void f(void) { v->free(v); my_time(1); }\n", None),
    ("banned", "src/http/a.c", "/* lint: allow free: the library made it */\nfree(p);\n", None),
    ("borders", "src/io/conn.c", "#include <liburing.h>\n", "behind io/loop.h"),
    ("borders", "src/io/loop_uring.c", "#include <liburing.h>\n", None),
    ("borders", "src/base/hash.c", "#include <openssl/sha.h>\n", "not for this file"),
    ("borders", "src/io/tls_ctx.c", "#include <openssl/ssl.h>\n", None),
    ("borders", "src/config/lexer.c", "#include <libconfig.h>\n", "config/read.c"),
    ("borders", "src/http/a.c", "#include <time.h>\n", "no clocks"),
    ("size", "src/http/a.c", LONG, "wide_function has 83 lines"),
    ("size", "src/http/a.c", "struct table {\n" + "  int a;\n" * 100 + "};\n", None),
    ("size", "src/http/a.c", "int t[] = {\n" + "  f(1),\n" * 100 + "};\n", None),
    ("size", "src/http/a.c", "int a;\n" * 1200, "1200 lines"),
    ("size", "include/weir/http/a.h", "int a;\n" * 150, "a header of 150 lines"),
    ("size", "include/weir/http/a.def", "X(a)\n" * 150, None),
    ("size", "src/http/a.c", "/*" + "x" * 96 + "*/\n", "100 columns"),
    ("size", "src/http/a.c", "/*" + "x" * 95 + "*/\n", None),
    ("flags", "src/http/a_priv.h", "enum mark {\n  A = 1,\n  B = 2,\n  C = 4,\n  D = 2,\n};\n",
     "D has the bit of B"),
    ("flags", "src/http/a_priv.h", "enum mark { A = 1 << 0, B = 1 << 4, C = 16 };\n",
     "C has the bit of B"),
    ("flags", "src/http/a_priv.h", "enum code { A = 1, B = 2, C = 3, D = 4, E = 4 };\n", None),
    ("tables", "include/weir/base/end.def", 'END(OK, "")\nEND(GONE, "")\n', "GONE no code"),
    ("tables", "include/weir/proxy/stats.def", 'STAT(hits, "h")\n', "hits is never counted"),
    ("coverage", TABLE, OPTIONS + 'OPTION(A, ROOT, "log.to", TEXT)\n', "log.to is set by no test"),
    ("coverage", E2E, OPTIONS_TEST.replace("user", "owner"), "process.user is set by no test"),
    ("coverage", E2E, OPTIONS_TEST.replace('"a"', "None"), "process.user is set by no test"),
    ("coverage", E2E, OPTIONS_TEST.replace("headers=3", "header=3"), "pools.*.limits.headers"),
    ("coverage", E2E, OPTIONS_TEST.replace('"limits"', '"bounds"'), "pools.*.limits.headers"),
    ("coverage", E2E, OPTIONS_TEST.replace("match", "to"), "routes.*.match.path is set by"),
    ("coverage", E2E, OPTIONS_TEST.replace('[{"match', '[{"x": {"match').replace("}}]", "}}}]"),
     "routes.*.match.path is set by"),
    ("coverage", E2E, OPTIONS_TEST.replace('"path": "/"', '"a": "path = 1"'), "match.path is set"),
    ("coverage", E2E, OPTIONS_TEST.replace('"pools"', 'name: 1, "pools"'), None),
    ("coverage", "tests/e2e/test_b.py", 'client.get(user="b")\n', None),
    ("coverage", SPARED, "# none\n", "process.drain is set by no test"),
    ("coverage", SPARED, "process.drain |\n", "say why"),
    ("coverage", SPARED, "process.drain | why\nprocess.user | why\n", "is set by a test: remove"),
    ("coverage", SPARED, "process.drain | why\nprocess.gone | why\n", "is no option: remove"),
    ("files", "stray.txt", "x\n", "top level is fixed"),
    ("files", "src/http/sub/a.c", "int a;\n", "in no target"),
    ("files", "tests/unit/http/test_other.c", "int a;\n", "name the test after a source"),
    ("files", "tests/unit/helper.c", "int a;\n", "tests/support/"),
    ("files", "fuzz/fuzz_uri.c", "int a;\n", "no seeds"),
    ("files", "fuzz/regress/uri/1", "x", "belongs to no target"),
    ("files", "src/layers.txt", CLEAN["src/layers.txt"] + "proxy: base\n", "nothing of proxy/"),
    ("files", "packaging/a.sh", "curl http://deb." + "debian" + ".org/x\n", "package registry"),
    ("files", "src/quic/a.c", "int a;\n", "not in src/layers.txt"),
]


def make_tree(root, extra):
    """Writes the clean files and the extra ones below root, and a compile_commands.json."""
    for name, text in {**CLEAN, **extra}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    build = root / "build"
    build.mkdir(exist_ok=True)
    rows = [f'{{"file": "{path}"}}' for path in sorted(root.glob("src/*/*.c"))]
    (build / "compile_commands.json").write_text("[" + ",".join(rows) + "]", encoding="utf-8")
    return Tree(root, build)


def check_case(name, extra, wanted):
    """None, or what went wrong."""
    with tempfile.TemporaryDirectory() as where:
        faults: list[Fault] = importlib.import_module(f"lint_{name}").run(
            make_tree(pathlib.Path(where), extra)
        )
    if wanted is None:
        return f"unexpected: {faults}" if faults else None
    if not any(wanted in fault.text for fault in faults):
        return f"no fault with {wanted!r}: {faults}"
    return None


def main():
    failed = 0
    for name in sorted({case[0] for case in CASES}):
        problem = check_case(name, {}, None)
        failed += problem is not None
        print(f"{name} on the clean tree: {problem or 'ok'}")
    for name, path, text, wanted in CASES:
        problem = check_case(name, {path: text}, wanted)
        failed += problem is not None
        if problem:
            print(f"{name} {path} {text[:60]!r}: {problem}")
    print(f"{len(CASES)} cases, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
