"""The documents say what is so: each indented or fenced snippet of README.md and packaging/docs is
run or checked by the first rule of RULES that covers it, and one that none covers fails.
Configurations go through `weir check`, commands run against a started weir or `weir demo`,
transcripts are played again. Names in backticks (end words, options, metrics, files) must exist.
Does not install or download anything: of the scripts, only their being there and their syntax is
looked at."""
import json
import os
import pathlib
import re
import runpy
import shlex
import subprocess

import pytest

from harness import certs, client, confgen, proc, wire
from harness.backend import Backend
from harness.dns import Dns
from harness.mtls import ClientMint
from harness.weir import ROOT, binary, eventually, run

PAGES = [ROOT / "README.md", *sorted((ROOT / "packaging/docs").glob("*.md"))]
SECTIONS = {
    "listeners": 'listeners = { web = { bind = "127.0.0.1:8080"; }; };\n',
    "pools": "pools = { %s };\n",
    "routes": 'routes = ( { prefix = "/"; pool = "app"; } );\n',
}


def snippets():
    """(place, text) of each fenced or indented block of each page."""
    for page in PAGES:
        lines, block, start, fenced = page.read_text().splitlines() + [""], [], 0, False
        for number, line in enumerate(lines, 1):
            if line.startswith("```"):
                fenced = not fenced
            elif fenced or line.startswith("    "):
                start = start or number
                block.append(line if fenced else line[4:])
                continue
            elif not line and block and number < len(lines) and lines[number].startswith("    "):
                block.append("")
                continue
            if block:
                yield "%s:%d" % (page.name, start), "\n".join(block).rstrip() + "\n"
            block, start = [], 0
        assert not fenced, "%s: a fence is not closed" % page


# ---- configurations ----


def secrets(text, work, authority):
    """Makes the files that a configuration names; those of one stem belong together."""
    for stem in sorted(set(re.findall(r'"file:([\w/.-]+)\.(?:crt|key)"', text))):
        made = authority.leaf(["example.com", "*.example.com"],
                              kind="rsa" if stem.endswith("rsa") else "ec")
        for suffix, name in (("crt", "cert"), ("key", "key")):
            path = work / ("%s.%s" % (stem, suffix))
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(pathlib.Path(made[name][5:]).read_bytes())
    for name in re.findall(r'"file:([\w/.-]+\.crl)"', text):
        (work / name).write_bytes(ClientMint(work).crl().read_bytes())


def ech_keys(text, work):
    """The file of keys for Encrypted Client Hello that a configuration names."""
    for name in re.findall(r'ech = "file:([\w/.-]+)"', text):
        (work / name).touch(mode=0o600)
        (work / name).write_text(run("ech-keys", "example.com").stdout)


def shared_keys(text, work, authority):
    """The ticket keys and OCSP responses that a configuration names."""
    for stem in re.findall(r'ocsp = "file:([\w/.-]+)\.ocsp"', text):
        made = authority.staple((work / ("%s.crt" % stem)).read_bytes())
        (work / ("%s.ocsp" % stem)).write_bytes(made)
    for names in re.findall(r"ticket_keys\s*= \[([^\]]*)\]", text):
        for name in re.findall(r'"file:([\w/.-]+)"', names):
            path = work / name
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(os.urandom(80))


def completed(text):
    """A fragment with the sections that it leaves out."""
    names = {"app", *re.findall(r'pool = "(\w+)"', text)}
    pools = " ".join('%s = { endpoints = "127.0.0.1:9001"; };' % name for name in sorted(names))
    for key, section in SECTIONS.items():
        if key == "routes" and re.search(r'protocol = "(tcp|tls_passthrough|udp)"', text):
            continue
        if not re.search(r"^%s\s*=" % key, text, re.MULTILINE):
            text += section % pools if key == "pools" else section
    return text


def check_conf(path):
    result = run("check", "--json", path, cwd=path.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    answer = json.loads(result.stdout)
    assert answer["ok"], answer


def try_conf(text, work, authority, **_):
    secrets(text, work, authority)
    ech_keys(text, work)
    shared_keys(text, work, authority)
    path = work / "weir.conf"
    path.write_text(completed(text))
    check_conf(path)


# ---- commands ----


class Bench:
    """What the commands of one snippet run against, started when the first one needs it."""

    def __init__(self, work, weir, backend):
        self.work, self.factory, self.backend = work, weir, backend
        self.weir, self.demo, self.ports = None, None, {}

    def running(self):
        if not self.weir:
            self.weir = self.factory({}, self.backend)
            self.ports["9180"] = self.weir.status
        return self.weir

    def serving(self, port):
        """The port that stands for one of the documents' (9180: status, else the demo's)."""
        if port == "9180":
            self.running()
        elif not self.demo:
            self.ports.update({"8080": proc.free_port(), "8443": proc.free_port()})
            self.demo = subprocess.Popen(
                [binary(), "demo", "--http", "127.0.0.1:%d" % self.ports["8080"], "--https",
                 "127.0.0.1:%d" % self.ports["8443"], "--status", "off"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=proc.die_with_parent)

            def up():
                try:
                    with client.Client(self.ports["8443"]), client.Client(self.ports["8080"]):
                        return True
                except OSError:
                    return False
            eventually(up)
        return str(self.ports[port])

    def finish(self):
        if self.demo:
            self.demo.terminate()
            assert self.demo.wait(40) == 0


def succeeded(args, **kwargs):
    result = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False,
                            **kwargs)
    assert result.returncode == 0, "%s: exit status %d\n%s%s" % (
        args, result.returncode, result.stdout, result.stderr)
    return result.stdout


def do_script(bench, words):
    script = ROOT / words[0]
    assert os.access(script, os.X_OK), script
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    succeeded([shell, "-n", str(script)])
    if script.name == "test.sh":
        assert all("step_%s()" % word in script.read_text() for word in words[1:]), words
    elif len(words) > 1:
        assert words[1] == "-c" and len(words) == 3, words
        check_conf(ROOT / words[2])


def do_cmake(_bench, words):
    presets = json.loads((ROOT / "CMakePresets.json").read_text())
    kind = "buildPresets" if words[1] == "--build" else "configurePresets"
    names = [preset["name"] for preset in presets[kind]]
    lists = (ROOT / "CMakeLists.txt").read_text()
    given = [word[2:].partition("=") for word in words if word.startswith("-D")]
    for name, _, value in given:
        choice = re.search(r"CACHE %s PROPERTY STRINGS ([^)]*)" % name, lists)
        assert choice and value in choice[1].split(), (name, value)
    words = [word for word in words if not word.startswith("-D")]
    assert words[-2] == "--preset" and words[-1] in names, names


def do_run(_bench, words):
    succeeded([binary(), "run", "-t", *words[2:]], cwd=ROOT)


def do_weir(bench, words):
    weir = bench.running()
    env = dict(os.environ, WEIR_CONFIG=str(weir.path), WEIR_ADMIN="unix:%s" % weir.admin)
    words = [str(weir.path) if word == "FILE" else word for word in words[1:]]
    assert succeeded([binary(), *words], env=env)
    if words[0] == "drain":
        assert weir.process.wait(30) == 0


def do_curl(bench, words):
    words = [re.sub(r"(//127\.0\.0\.1:)(\d+)", lambda m: m[1] + bench.serving(m[2]), word)
             for word in words[1:]]
    assert succeeded(["curl", "--silent", "--show-error", "--fail", *words])


def do_openssl(bench, words):
    succeeded(words, cwd=bench.work)
    names = {flag: words[words.index("-" + flag) + 1] for flag in ("out", "keyout")}
    path = bench.work / "made.conf"
    path.write_text(completed("""listeners = { web = { bind = "127.0.0.1:8443"; tls = {
        certificates = ( { cert = "file:%(out)s"; key = "file:%(keyout)s"; } ); }; }; };""" %
        names))
    check_conf(path)


def do_rand(bench, words):
    """What it makes is a ticket key."""
    succeeded(words, cwd=bench.work)
    path = bench.work / "made.conf"
    (bench.work / words[words.index("-out") + 1]).chmod(0o600)
    text = """listeners = { web = { bind = "127.0.0.1:8443"; tls = { ticket_keys = "file:%s";
        certificates = ( { cert = "file:a.crt"; key = "file:a.key"; } ); }; }; };"""
    authority = certs.Authority(bench.work)
    authority.leaf(["example.com"], stem="a")
    path.write_text(completed(text % words[words.index("-out") + 1]))
    check_conf(path)


def do_pin(bench, words):
    """The pipe gives what pins take."""
    path = bench.work / words[words.index("-in") + 1]
    path.parent.mkdir(exist_ok=True)
    succeeded(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=app", "-keyout",
               str(path.with_suffix(".key")), "-out", str(path)])
    pin = succeeded(["sh", "-c", " ".join(words)], cwd=bench.work).split()[0]
    made = bench.work / "made.conf"
    made.write_text(completed("""pools = { app = { endpoints = "127.0.0.1:9001"; tls = {
        verify = "none"; pins = "sha256:%s"; }; }; };""" % pin))
    check_conf(made)


def do_proxy(bench, words):
    """What it would run is good."""
    path = bench.work / "proxy.conf"
    path.write_text(succeeded([binary(), "proxy", "--print-config", *words[2:]]))
    check_conf(path)


def do_ech_keys(bench, words):
    """Redirected to a file or not, it is PEM."""
    if ">" in words:
        *words, _, name = words
        assert name.endswith(".pem"), words
    made = succeeded([binary(), *words[1:]], cwd=bench.work)
    assert "BEGIN PRIVATE KEY" in made and "BEGIN ECHCONFIG" in made, made


def do_sysctl(_bench, words):
    key, number = words[-1].split("=")
    assert words[1] == "-w" and number.isdigit()
    assert (pathlib.Path("/proc/sys") / key.replace(".", "/")).exists(), key


COMMANDS = [
    (r"(packaging|bench)/\w+\.sh\b", do_script),
    (r"cmake ", do_cmake),
    (r"(build/release/)?weir run -c ", do_run),
    (r"weir (check|reload|plan|dump|explain|status|metrics|drain|health|version)\b", do_weir),
    (r"weir proxy ", do_proxy),
    (r"weir ech-keys ", do_ech_keys),
    (r"curl ", do_curl),
    (r"openssl req ", do_openssl),
    (r"openssl rand ", do_rand),
    (r"openssl x509 .* sha256sum", do_pin),
    (r"sysctl ", do_sysctl),
]


def try_commands(text, work, weir, backend, **_):
    bench = Bench(work, weir, backend)
    try:
        for line in filter(None, text.splitlines()):
            command = re.split(r" {2,}", line)[0]  # what follows is a remark
            for part in command.split(" && "):
                rule = next((rule for form, rule in COMMANDS if re.match(form, part)), None)
                assert rule, "no rule covers the command %r" % part
                rule(bench, shlex.split(part))
    finally:
        bench.finish()


# ---- transcripts of `weir reload` and `weir plan` ----


def masked(line):
    """Numbers and directories may differ."""
    line = re.sub(r"(/[\w.-]+)+/weir\.conf", "weir.conf", line)
    return line if re.match(r"[+~-] |generation |a reload ", line) else re.sub(r"\d+", "#", line)


def nested(path, text):
    """{"process": {"drain": "5s"}} of process.drain and "5s"."""
    value = json.loads(text)
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def play(proxy, wanted):
    """Changes the configuration as the lines say that it was changed."""
    over = {}
    for line in wanted:
        added = re.fullmatch(r"\+ listener (\w+): bind (\S+)", line)
        endpoint = re.fullmatch(r"~ pool app: endpoint (\S+) added", line)
        fault = re.match(r'error\[W0104\]: route "api" uses pool "(\w+)"', line)
        setting = re.fullmatch(r"(?:~ setting|warning\[W0406\]:) ([\w.]+): \S+ -> (\S+)"
                               r"( needs a restart)?", line)
        if setting:
            over.update(nested(setting[1], setting[2]))
        elif added:
            over["listeners"] = {added[1]: {"bind": added[2]}}
        elif endpoint:
            over["pools"] = {"app": {"endpoints": ["127.0.0.1:9001", endpoint[1]]}}
        elif line == "~ route api: settings":
            over["routes"] = [{"name": "api", "prefix": "/", "pool": "app", "timeout": "9s"}]
        elif fault:
            over["routes"] = [{"name": "api", "prefix": "/", "pool": fault[1]}]
        else:
            assert re.match(r"generation |a reload |\d+ error; |\.\.\.$|  --> ", line), line
    proxy.change(**over)


def told_by(proxy, command):
    result = run(command, "--text", "--admin", "unix:%s" % proxy.admin)
    return [masked(line) for line in (result.stdout + result.stderr).splitlines()]


def at_generation(proxy, number):
    """Reloads until this generation runs."""
    for i in range(proxy.generation(), number):
        proxy.change(routes=[{"name": "api", "prefix": "/", "pool": "app",
                              "timeout": "%ds" % (i + 20)}])
        proxy.reload()


def try_transcript(text, weir, **_):
    proxy = weir({"pools": {"app": {"endpoints": ["127.0.0.1:9001"]}},
                  "routes": [{"name": "api", "prefix": "/", "pool": "app"}]})
    parts = re.split(r"^\$ weir (reload|plan)\n", text, flags=re.MULTILINE)[1:]
    for command, part in zip(parts[::2], parts[1::2]):
        wanted = re.sub(r"127\.0\.0\.1:8082", "127.0.0.1:%d" % proc.free_port(), part)
        wanted = wanted.strip().splitlines()
        number = int(re.search(r"generation (\d+)", part)[1])
        at_generation(proxy, number if "keeps running" in part else number - 1)
        play(proxy, wanted)
        told = told_by(proxy, command)
        pattern = "\n".join(".*" if line == "..." else re.escape(masked(line)) for line in wanted)
        assert re.fullmatch(pattern, "\n".join(told), re.DOTALL), "\n".join(told)


# ---- sentences about endpoints (health.md) ----


def try_health_log(text, weir, backend, **_):
    """Makes it all happen with two backends; figures and addresses may differ."""
    status, other = [200], Backend(lambda _conn, request: wire.response_bytes(
        200 if request.path == "/healthz" else 500))
    backend.on("/healthz", lambda _conn, _request: wire.response_bytes(status[0]))
    proxy = weir({"pools": {"app": {
        "balance": "round_robin",
        "health": {"path": "/healthz", "interval": "50ms", "fast_interval": "50ms"},
        "outlier": {"failure_rate": "40%", "eject": "1s"}}}}, backend, other)

    def said(number):
        wanted = re.sub(r"\d+", "#", text.splitlines()[number].split(": ", 2)[2])

        def is_said():
            return any(wanted in re.sub(r"\d+", "#", line) for line in proxy.stderr)
        is_said.__doc__ = "%s in %s" % (wanted, proxy.errors)
        return is_said
    eventually(lambda: proxy.metric("weir_endpoint_up") == 2)
    status[0] = 503
    eventually(said(0))
    status[0] = 200
    eventually(said(1))
    eventually(lambda: proxy.get("/") and said(2)())
    eventually(said(3))
    other.stop()


# ---- sentences about names (discovery.md) ----


def try_names_log(text, weir, **_):
    """Makes it all happen with a DNS server of our own; figures and addresses may differ."""
    server = Dns()
    name = re.search(r"name ([\w.]+): ", text)[1]
    server.set(name, a=["127.0.0.2", "127.0.0.3"])
    proxy = weir({"pools": {"app": {"discover": {
        "dns": name + ":8080", "servers": server.address, "min_ttl": "20ms", "retry": "20ms",
        "max_retry": "20ms"}}}, "routes": [{"prefix": "/", "pool": "app"}]})

    def said(number):
        wanted = re.sub(r"\d+", "#", text.splitlines()[number])

        def is_said():
            return any(wanted in re.sub(r"\d+", "#", line) for line in proxy.stderr)
        is_said.__doc__ = "%s in %s" % (wanted, proxy.errors)
        return is_said
    eventually(lambda: proxy.metric("weir_pool_endpoints") == 2)
    server.set(name, a=["127.0.0.2", "127.0.0.3", "127.0.0.4"])
    eventually(said(0))
    server.behave(name, "servfail")
    eventually(said(1))
    server.behave(name)
    eventually(said(2))
    server.stop()


# ---- sentences about pools and workers (overload.md) ----


def try_overload_log(text, weir, backend, **_):
    """Makes it all happen; figures may differ."""
    status = [500]
    backend.default = lambda _conn, _request: wire.response_bytes(status[0])
    proxy = weir({"process": {"workers": 2, "max_connections": 20,
                              "overload": {"connections": "10%"}},
                  "pools": {"app": {"outlier": {"consecutive_failures": 0},
                                    "breaker": {"failure_rate": "50%", "open": "1s"}}}}, backend)
    for number, line in enumerate(text.splitlines()):
        wanted = re.sub(r"\d+", "#", line)

        def is_said(wanted=wanted):
            proxy.get("/")
            return any(wanted in re.sub(r"\d+", "#", line) for line in proxy.stderr)
        is_said.__doc__ = "%s in %s" % (wanted, proxy.errors)
        held = [proxy.client() for _ in range(6)] if number == 3 else []
        eventually(is_said)
        status[0] = 200
        for conn in held:
            conn.close()


# ---- all of them ----

RULES = [
    (r"\$ weir (reload|plan)\n", try_transcript),
    (r"pool app: endpoint ", try_health_log),
    (r"names resolved anew: ", try_names_log),
    (r"pool app: breaker ", try_overload_log),
    (r"(\w+ += [^;]*;\s*)+\Z|(listeners|pools|routes|policies|admin|log|process)\s*= [{(]",
     try_conf),
    (r"([\w./-]+ )?[\w./-]+( |\n)", try_commands),
]
ALL = list(snippets())


@pytest.mark.parametrize("text", [text for _, text in ALL], ids=[place for place, _ in ALL])
def test_snippet(text, work, weir, backend, authority):
    rule = next((rule for form, rule in RULES if re.match(form, text)), None)
    assert rule, "no rule of RULES covers this snippet:\n" + text
    rule(text, work=work, weir=weir, backend=backend, authority=authority)


def test_snippets_are_found():
    places = [place.split(":")[0] for place, _ in ALL]
    assert len(ALL) >= 20 and places.count("README.md") >= 6 and "tls.md" in places, places


def test_readme_shows_the_minimal_file():
    minimal = (ROOT / "conf/minimal.conf").read_text()
    bare = "".join(line + "\n" for line in minimal.splitlines() if not line.startswith("#"))
    assert bare.strip() in (ROOT / "README.md").read_text().replace("\n    ", "\n"), bare


# ---- the table of match.md ----


def routing_page():
    text = (ROOT / "packaging/docs/match.md").read_text()
    conf = next(text for place,
                text in ALL if place.startswith("match.md") and "strip_prefix" in text)
    rows = re.findall(r"^\| `(\w+) http://([\w.]+)(/\S*)` \| ([^|]+) \|$", text, re.MULTILINE)
    assert len(rows) == text.count("| `GET http") + text.count("| `POST http") >= 8, rows
    return conf, rows


def test_routing_table(weir, backend):
    conf, rows = routing_page()
    proxy = weir(start=False)
    conf = re.sub(r"endpoints = \[[^]]*\]", 'endpoints = [ "%s" ]' % backend.address, conf)
    conf = conf.replace('"127.0.0.1:8080"', '"127.0.0.1:%d"' % proxy.port)
    keep = {key: proxy.conf[key] for key in ("process", "admin", "log")}
    proxy.write(confgen.body(keep) + conf)
    proxy.start()
    for method, host, path, answer in rows:
        before = len(backend.requests)
        proxy.request(method, path, host=host)
        record = proxy.logged(path=path, server__address=host, method=method)
        route = re.match(r"\w+", answer)[0]
        assert record.get("http.route", "none") == route, (method, host, path, record)
        if route == "none":
            assert str(record["http.response.status_code"]) in answer, record
        forwarded = re.search(r"forwarded as `([^`]+)`", answer)
        if forwarded:
            assert backend.requests[before].target.decode() == forwarded[1], backend.requests[
                before]


def test_misdirected(weir, backend, authority):
    """tls.md: 421 for a host that no certificate of the listener serves."""
    rows = [dict(names=["a.example"], **authority.leaf(["a.example"]))]
    port = proc.free_port()
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                        "tls": {"certificates": rows}}}}, backend)
    with client.Client(port, tls=authority.client_context(), sni="a.example") as conn:
        assert conn.get("/", host="a.example").status == 200
        assert conn.get("/", host="b.example").status == 421
    proxy.ended("client.misdirected", status=421)


# ---- names ----


def names_of(path, pattern):
    return set(re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE))


def metric_names():
    names = names_of("include/weir/proxy/stats.def", r'"((?:weir|http|process)_\w+)')
    for table in ("src/control/metrics.def", "src/control/metrics_loop.def"):
        names |= names_of(table, r'"((?:weir|http|process)_\w+)')
    for path in ("src/control/metrics.c", "src/control/metrics_names.c", "src/control/series.c",
                 "src/control/facts.c", "src/control/metrics_limits.c",
                 "src/control/metrics_protect.c", "src/control/metrics_grpc.c"):
        names |= names_of(path, r'((?:weir|http|process)_\w+)')
    return names


def test_end_words_are_current():
    made = succeeded(["/usr/bin/python3", "-B", str(ROOT / "packaging/docs/errors.py")])
    assert made == (ROOT / "packaging/docs/errors.md").read_text(), \
        "run packaging/docs/errors.py --write"


@pytest.mark.parametrize("literals,cell", [
    (r'"The client left."', "The client left."), ('""', ""),
    (r'"The \"host\" is no name: \\."', 'The "host" is no name: \\.'),
    (r'"Either \"a\"|\"b\"."', r'Either "a"\|"b".'), ('"On two "\n    "lines."', "On two lines."),
    (r'"\"" "), (\""', '"), ("')])
def test_end_words_with_quotes(literals, cell):
    """What C makes of a string stands on the page, and rows behind it are read."""
    errors = runpy.run_path(ROOT / "packaging/docs/errors.py")
    text = '/* END(id) */\nEND(A, "client.a", 400, BAD, INFO, false, %s)\n' \
           'END(B, "client.b", 0, NONE, WARN, true, "b")\n' % literals
    assert errors["rows"](text) == [("client.a", "400", "INFO", "false", cell),
                                    ("client.b", "0", "WARN", "true", "b")]
    assert errors["page"](text).splitlines()[-2:] == ["| `client.a` | 400 |  | %s |" % cell,
                                                      "| `client.b` | - | again | b |"]
    with pytest.raises(AssertionError):
        errors["rows"](r'END(A, "client.a", 400, BAD, INFO, false, "tab\t")')


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_names_exist(page):
    ends = names_of("include/weir/base/end.def", r'^END\(\w+, "([^"]+)"')
    options = names_of("include/weir/config/options.def", r'^OPTION\(\w+, \w+, "([^"]+)"')
    codes, metrics = names_of("include/weir/config/faults.def", r'"(W\d+)"'), metric_names()
    text = page.read_text()
    for name in re.findall(r"`([^`\n]+)`", text):
        name = name.removeprefix("end=")
        if re.fullmatch(r"(client|proxy|upstream)(\.\w+)+", name):
            assert name in ends or name == "client.address", name
        if re.fullmatch(
            r"(listeners|pools|policies|routes|process|admin|log|timeouts|limits|outlier"
            r"|connections|health|breaker|concurrency|overload)(\.[\w*]+)+", name):
            assert any(option == name or option.endswith("." + name) for option in options), name
        if re.fullmatch(r"(weir|http|process)_\w+", name):
            assert name in metrics, name
        if re.fullmatch(r"(src|include|conf|packaging|bench|tests)/[\w/.-]+", name):
            assert (ROOT / name).exists(), name
    for code in re.findall(r"\bW0\d{3}\b", text):
        assert code in codes, code
    for link in re.findall(r"(?<![\w/])([a-z]+\.md)\b", text):
        assert (page.parent / link).exists() or link in ("README.md",), link
