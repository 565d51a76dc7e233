"""The command line: check, dump, run, version; exit codes; faults with place and caret (DESIGN.md
sections 6 and 7). Faults of the reader itself are unit tests' matter; here stands what a person
sees."""
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import confgen, proc
from harness.weir import binary, eventually, run

GOOD = """listeners = { web = { bind = "127.0.0.1:8080"; }; };
pools     = { app = { endpoints = [ "127.0.0.1:9001" ]; }; };
routes    = ( { prefix = "/"; pool = "app"; } );
"""


def on_terminal(*args, cwd=None, env=None):
    """(exit status, text) of a command whose output is a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([binary(), *map(str, args)], stdout=slave, stderr=slave,
                               stdin=slave,
                               cwd=cwd, env=dict(os.environ, **(env or {})))
    os.close(slave)
    parts = []

    def read():
        try:
            while True:
                data = os.read(master, 65536)
                if not data:
                    return
                parts.append(data)
        except OSError:
            return
    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(60)
    reader.join(10)
    os.close(master)
    text = b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n")
    return status, re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def conf(work):
    def write(text, name="weir.conf"):
        path = work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def test_check_of_a_good_file(conf):
    for args in (("check", conf(GOOD)), ("-t", "-c", conf(GOOD))):
        result = run(*args)
        assert result.returncode == 0, result
        status, text = on_terminal(*args)
        assert status == 0 and "error" not in text


# name, text with the faulty part marked by <<...>>, code
FAULTS = [
    ("unknown_key", 'listeners = { web = { bind = "127.0.0.1:80"; }; };\n<<rutes>> = ( );\n',
     "W0101"),
    ("unknown_key_deep",
     'listeners = { web = { bind = "127.0.0.1:80"; timeouts = { <<heder>> = "1s"; }; }; };',
     "W0101"),
    ("undefined_pool", GOOD.replace('pool = "app"', 'pool = <<"ap">>'), "W0104"),
    ("undefined_listener", GOOD.replace('pool = "app"', 'pool = "app"; listeners = [ <<"wev">> ]'),
     "W0104"),
    ("wrong_type", GOOD.replace('"127.0.0.1:8080"', "<<8080>>"), "W0103"),
    ("bad_duration", GOOD.replace('bind =', 'timeouts = { header = <<"10 parsecs">>; }; bind ='),
     "W0201"),
    ("duration_without_unit", GOOD.replace('bind =', 'timeouts = { header = <<"10">>; }; bind ='),
     "W0201"),
    ("bad_size", GOOD.replace('bind =', 'limits = { header_bytes = <<"64Kb">>; }; bind ='),
     "W0202"),
    ("out_of_range", GOOD.replace('bind =', 'limits = { headers = <<0>>; }; bind ='), "W0204"),
    ("bad_percent",
     GOOD.replace('endpoints', 'outlier = { max_ejected = <<"150%">>; }; endpoints'), None),
    ("bad_word", GOOD.replace('endpoints', 'balance = <<"rand">>; endpoints'), "W0205"),
    ("bad_bind", GOOD.replace('"127.0.0.1:8080"', '<<"example.com:80">>'), "W0206"),
    ("bad_endpoint", GOOD.replace('"127.0.0.1:9001"', '<<"127.0.0.1">>'), "W0206"),
    ("bad_host", GOOD.replace('prefix', 'hosts = [ <<"a b">> ]; prefix'), "W0207"),
    ("bad_path", GOOD.replace('"/"', '<<"/a/../b">>'), "W0208"),
    ("bad_method", GOOD.replace('prefix', 'methods = [ <<"G T">> ]; prefix'), "W0209"),
    ("bad_net", GOOD.replace('bind =', 'trusted_proxies = [ <<"10.0.0.1/8">> ]; bind ='), "W0210"),
    ("string_open", 'listeners = { web = { bind = <<"127.0.0.1:80>>; }; };\n', "W0003"),
    ("escape", GOOD.replace('"/"', '"/<<\\q>>"'), "W0006"),
    ("bare_word", GOOD.replace('"/"', "<<root>>"), "W0015"),
    ("duplicate_key", GOOD.replace('bind =', 'bind = "127.0.0.1:81"; <<bind>> ='), "W0012"),
    ("at_include", '<<@include>> "x.conf"\n' + GOOD, "W0010"),
    ("number_too_large", GOOD.replace('bind =', 'limits = { headers = <<99999999999>>; }; bind ='),
     "W0009"),
    ("no_action", GOOD.replace('pool = "app";', ''), "W0109"),
    ("two_actions", GOOD.replace('pool = "app";', 'pool = "app"; redirect = { to = "/x"; };'),
     "W0110"),
    ("path_and_prefix", GOOD.replace('prefix', 'path = "/x"; prefix'), "W0111"),
    ("later", GOOD.replace("bind =", 'protocols = [ <<"h3">> ]; bind ='), "W0102"),
    ("regex", GOOD.replace('prefix = "/";', 'regex = "^(a+)<<+>>$";'), "W0242"),
    ("missing_bind", GOOD.replace('bind = "127.0.0.1:8080";', ''), "W0107"),
    ("duplicate_route", GOOD.replace(" );", ', { prefix = "/"; pool = "app"; } );'), "W0106"),
    ("duplicate_bind", GOOD.replace("web =", 'web2 = { bind = "127.0.0.1:8080"; }; web ='),
     "W0113"),
    ("tls_without_certificates", GOOD.replace('bind =', 'tls = { min_version = "1.2"; }; bind ='),
     "W0119"),
    ("secret_in_clear",
     GOOD.replace('bind =',
                  'tls = { certificates = ( { <<cert>> = "-----BEGIN";\n key = "file:k"; } ); }; '
                  'bind ='), "W0214"),
    ("missing_certificate_file",
     GOOD.replace('bind =',
                  'tls = { certificates = ( { cert = <<"file:no.crt">>; key = "file:no.key"; } '
                  '); }; bind ='), "W0304"),
    ("env_unset", GOOD.replace('"127.0.0.1:9001"', '"${env:WEIR_TEST_NOT_SET}"'), "W0301"),
    ("env_form", GOOD.replace('"127.0.0.1:9001"', '"${HOME}:80"'), "W0302"),
    ("body_of_204", GOOD.replace('pool = "app";', 'respond = { status = 204; body = "x"; };'),
     "W0123"),
    ("redirect_on_tls",
     GOOD.replace('bind =',
                  'redirect_https = true; tls = { certificates = ( { cert = "env:A"; key = '
                  '"env:B"; } ); }; bind ='), "W0122"),
]


def marked(text):
    """The text without its marks, and line and column of the first mark (None: no mark)."""
    at = text.find("<<")
    clean = text.replace("<<", "").replace(">>", "")
    if at < 0:
        return clean, None, None
    return clean, text[:at].count("\n") + 1, at - (text.rfind("\n", 0, at) + 1) + 1


@pytest.mark.parametrize("text,code", [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_fault(conf, text, code):
    """Exit 78; the code, file:line:column, the line and a caret under the place."""
    clean, line, column = marked(text)
    path = conf(clean)
    status, out = on_terminal("check", path)
    assert status == 78, out
    if code:
        assert "error[%s]" % code in out, out
    if code == "W0214":  # what may be a secret is not shown
        assert re.search(r"weir\.conf:%d:%d\n" % (line, column),
                         out) and "-----BEGIN" not in out, out
        return
    places = re.findall(r"--> \S*weir\.conf:(\d+):(\d+)\n *(\d+) \| (.*)\n +\| ( *)(\^+)", out)
    assert places, out
    if line:
        assert any((int(p[0]), int(p[1])) == (line, column) for p in places), (line, column, out)
    for place in places:
        source = clean.split("\n")[int(place[0]) - 1]
        assert place[2] == place[0]
        assert place[3].strip() and (place[3] in source.replace("\t", " ") or "..." in place[3])
        if place[3] == source:
            assert len(place[4]) == int(place[1]) - 1


def test_secret_in_clear_is_never_shown(conf):
    """Not even in the excerpt of another fault on its line."""
    text = GOOD.replace('bind =',
                        'tls = { certificates = ( { key = "-----BEGIN SECRET"; cert = 1; '
                        'nonsense = 2; } ); }; bind =')
    status, out = on_terminal("check", conf(text))
    piped = run("check", conf(text))
    assert status == piped.returncode == 78
    assert "SECRET" not in out and "SECRET" not in piped.stdout + piped.stderr, out


@pytest.mark.parametrize("text,suggestion", [
    (GOOD.replace('pool = "app"', 'pool = "ap"'), "app"),
    (GOOD.replace("prefix", "prefx"), "prefix"),
    (GOOD.replace("endpoints", "endpoint"), "endpoints"),
    (GOOD.replace("routes", "route"), "routes")])
def test_suggestion(conf, text, suggestion):
    status, out = on_terminal("check", conf(text))
    assert status == 78 and re.search(r'did you mean "?%s"?' % suggestion, out), out


def in_web(setting):
    return GOOD.replace("bind =", setting + " bind =")


def in_app(setting):
    return GOOD.replace("endpoints =", setting + " endpoints =")


TIME, SIZE = "(ms s m h d)", "(B KiB MiB GiB TiB PiB)"


@pytest.mark.parametrize("text,words", [
    (in_app('timeouts = { connect = "2min"; };'), ["no time", TIME]),
    (in_app('timeouts = { connect = "2000"; };'), ["no time", TIME]),
    (in_app("timeouts = { connect = 1.5s; };"), ["write a time", TIME]),
    (in_app("timeouts = { connect = 15s; };"), ['write "15s"']),
    (in_web('limits = { body_bytes = "10MB"; };'), ["no size", SIZE]),
    (in_web("limits = { body_bytes = 10m; };"), ["write a size", SIZE]),
    (in_web("limits = { body_bytes = 10MiB; };"), ['write "10MiB"']),
    (in_web("redirect_https = on;"), ["on is no value", "write true or false"]),
    (in_web('redirect_https = "on";'), ["takes true or false"]),
    (in_app("outlier = { max_ejected = 0.5; };"), ['write a percentage: "50%"']),
    (in_app("outlier = { deviations = 1.9; };"), ['write "1.9"']),
    (in_app('endpoints = [ "127.0.0.1:1" ]; weight = 0.5;'), ["is no whole number"]),
    (GOOD.replace("prefix", "location"), ['did you mean "prefix"?']),
    (GOOD.replace("pool =", "proxy_pass ="), ['did you mean "pool"?']),
    (GOOD.replace("bind", "listen"), ['did you mean "bind"?']),
    (GOOD.replace("pools  ", "upstreams"), ['did you mean "pools"?']),
    (in_app('balance = "least_conn";'), ['did you mean "least_request"?']),
    (in_app('balance = "pool";'), ["known: least_request"])])
def test_what_to_write_is_right_at_once(conf, text, words):
    status, out = on_terminal("check", conf(text))
    assert status == 78 and all(word in out for word in words), out


def test_what_is_written_so_is_good(conf):
    """Each unit that the messages name."""
    for unit in TIME.strip("()").split():
        out = run("check", "--text", conf(in_app('timeouts = { idle = "1%s"; };' % unit))).stdout
        assert "no time" not in out
    for unit in SIZE.strip("()").split():
        out = run("check", "--text", conf(in_web('limits = { body_bytes = "1%s"; };'
                                                 % unit))).stdout
        assert "no size" not in out


def test_a_key_that_does_not_fit_is_named(conf, authority, work):
    one, other = authority.leaf(["a.example"]), authority.leaf(["b.example"])
    tls = 'tls = { certificates = ( { cert = "%s"; key = "%s"; } ); };' % (one["cert"],
                                                                        other["key"])
    status, out = on_terminal("check", conf(in_web(tls)))
    assert status == 78 and "W0306" in out, out
    assert "^ with the key %s\n" % other["key"] in out, out
    (work / "none.pem").write_text("nothing\n")
    tls = tls.replace(other["key"], one["key"]).replace(
        "); };", '); client = ( { ca = [ "file:none.pem" ]; } ); };')
    status, out = on_terminal("check", conf(in_web(tls)))
    assert status == 78 and 'W0306]: listener "web": client: ' in out, out


MANY = """listeners = {
  web = { bind = "127.0.0.1:8080"; timeouts = { header = "fast"; }; };
  old = { bind = "nowhere"; };
};
pools = { app = { endpoints = [ "127.0.0.1:9001" ]; balanse = "round_robin"; }; };
routes = (
  { prefix = "/"; pool = "ap"; },
  { path = "no-slash"; pool = "app"; },
  { prefix = "/x"; }
);
"""


def test_all_faults_at_once(conf):
    status, out = on_terminal("check", conf(MANY))
    assert status == 78
    lines = [int(n) for n in re.findall(r"--> \S+:(\d+):\d+", out)]
    assert set(lines) >= {2, 3, 5, 7, 8, 9} and lines == sorted(lines), out
    assert re.search(r"^6 errors", out, re.M), out


def test_a_lost_bracket_is_one_fault(conf):
    """At the bracket that was opened, though what follows makes no sense without the other."""
    status, out = on_terminal("check", conf(
        "process = { workers = 1; };\nlisteners = {\n  web = { bind = \"127.0.0.1:8080\";\n};\n"
        + GOOD.split("\n", 1)[1]))
    assert status == 78 and "a group { } is not closed before }" in out, out
    assert re.findall(r"--> \S*weir\.conf:(\d+:\d+)", out) == ["3:9"] and "1 error" in out, out


def test_faults_as_json_when_piped(conf):
    """Not on a terminal: machine-readable, with the same places."""
    result = run("check", conf(MANY))
    assert result.returncode == 78
    text = result.stdout.strip() or result.stderr.strip()
    faults = json.loads(text)
    faults = faults if isinstance(faults, list) else faults.get("faults", faults.get("errors"))
    assert {f["line"] for f in faults if f["level"] == "error"} >= {2, 3, 5, 7, 8, 9}
    assert all(re.match(r"W0\d{3}$", f["code"]) and f["message"] for f in faults)


def test_run_of_a_bad_file(conf):
    """Refused before anything is bound."""
    result = run("run", "-c", conf(MANY))
    assert result.returncode == 78 and "W0104" in result.stdout + result.stderr


@pytest.mark.parametrize("name,data",
                         [("nul", GOOD.encode() + b"\0"), ("bom", b"\xef\xbb\xbf" + GOOD.encode()),
                          ("binary", bytes(range(256)) * 20),
                          ("open_comment", b"/* " + GOOD.encode()),
                          ("deep", b"a = " + b"( " * 5000),
                          ("huge_number", b"version = " + b"9" * 5000 + b";")])
def test_files_that_are_no_text(conf, name, data):
    result = run("check", conf(data))
    assert result.returncode == 78 and result.stdout + result.stderr, name


def test_missing_file(work):
    result = run("check", work / "none.conf")
    assert result.returncode in (1, 78) and "none.conf" in result.stdout + result.stderr


def test_unreadable_directory_as_file(work):
    result = run("check", work)
    assert result.returncode in (1, 78)


@pytest.mark.parametrize("args", [(), ("nonsense",), ("check", "--nonsense"),
                                  ("run", "--nonsense"), ("check", "a", "b"), ("-x",)])
def test_usage(args, work):
    result = run(*args, cwd=work, env={"WEIR_CONFIG": ""})
    assert result.returncode in ((2, 0) if not args else (2,)), result
    assert result.stdout + result.stderr


def test_version():
    result = run("version")
    assert result.returncode == 0
    text = result.stdout.lower()
    assert "version" in text and ("boringssl" in text or "aws-lc" in text) and "uring" in text
    status, human = on_terminal("version")
    assert status == 0 and human.lower().startswith("weir ")


@pytest.mark.parametrize("args", [("--help",), ("help",)])
def test_help(args):
    result = run(*args)
    assert result.returncode == 0 and "run" in result.stdout and "check" in result.stdout


def test_weir_config_in_the_environment(conf):
    path = conf(GOOD.replace('"/"', '"no-slash"'), "other.conf")
    result = run("-t", env={"WEIR_CONFIG": str(path)})
    assert result.returncode == 78 and "other.conf" in result.stdout + result.stderr


# ---- environment, includes ----

def test_env(conf):
    text = GOOD.replace('"127.0.0.1:9001"', '"${env:WEIR_T_HOST}:${env:WEIR_T_PORT:-9009}"')
    path = conf(text)
    assert run("check", path, env={"WEIR_T_HOST": "10.1.2.3"}).returncode == 0
    dump = run("dump", "-c", path, env={"WEIR_T_HOST": "10.1.2.3"})
    assert dump.returncode == 0 and "10.1.2.3:9009" in dump.stdout and "WEIR_T_" in dump.stdout
    other = run("dump", "-c", path, env={"WEIR_T_HOST": "10.1.2.3", "WEIR_T_PORT": "77"})
    assert "10.1.2.3:77" in other.stdout
    empty = run("dump", "-c", path, env={"WEIR_T_HOST": "10.1.2.3", "WEIR_T_PORT": ""})
    assert "10.1.2.3:9009" in empty.stdout, "an empty one has the default, as in a shell"
    bad = run("check", path, env={"WEIR_T_HOST": "not an address"})
    assert bad.returncode == 78


def test_includes(conf):
    main = conf(
        'include = [ "weir.d/*.conf" ];\nlisteners = { web = { bind = "127.0.0.1:8080"; }; };\n')
    conf('pools = { app = { endpoints = [ "127.0.0.1:9001" ]; }; };\n', "weir.d/10-pools.conf")
    conf('routes = ( { prefix = "/"; pool = "app"; } );\n', "weir.d/20-routes.conf")
    assert run("check", main).returncode == 0
    assert "127.0.0.1:9001" in run("dump", "-c", main).stdout


def test_an_include_may_find_nothing(weir, backend):
    """A directory that is not there is a warning, for each command the same; an empty one nothing;
    one that cannot be searched an error."""
    proxy = weir({"include": ["weir.d/*.conf"]}, backend)
    parts, admin = proxy.directory / "weir.d", ("--admin", "unix:%s" % proxy.admin)
    each = (("check", proxy.path), ("-t", "-c", proxy.path), ("dump", "-c", proxy.path),
            ("plan", "-c", proxy.path, *admin), ("reload", *admin))
    words = "weir.d/*.conf matches nothing: the directory %s does not exist" % parts
    proxy.stderr_has("W0410")
    for args in each:
        result = run(*args)
        assert result.returncode == 0, result
        told = words in result.stdout + result.stderr
        assert told or args[0] in ("dump", "plan"), result  # these tell of no warning
    parts.mkdir()
    for args in each:
        result = run(*args)
        assert result.returncode == 0 and "W0410" not in result.stdout + result.stderr, result
    parts.rmdir()
    parts.symlink_to(parts)
    for args in each:
        result = run(*args)
        said = result.stdout + result.stderr
        assert result.returncode == 78 and "W0305" in said and "symbolic links" in said, result
    assert proxy.get("/").status == 200


@pytest.mark.parametrize("text,status,code", [("$remote_addr", 0, "W0413"),
                                              ("${remote_addr}", 78, "W0215")])
def test_variables_of_nginx_are_told_apart(conf, text, status, code):
    """They mean nothing here: what is meant is named, and what is only text is no error."""
    edit = 'request_headers = { set = [ "X-Client: %s" ]; };' % text
    path = conf("policies = { p = { %s }; };\n" % edit
                + GOOD.replace('pool = "app"', 'pool = "app"; policies = [ "p" ]'))
    result = run("check", path)
    fault, = json.loads(result.stdout)["faults"]
    assert result.returncode == status and fault["code"] == code, result
    assert fault["note"] == 'did you mean "${client.address}"?' and fault["length"] == len(text)


NO_START = {
    "user": ({"process": {"user": "nobody-of-that-name"}}, "W0411",
             'there is no user "nobody-of-that-name"'),
    "log": ({"log": {"access": {"to": "/nonexistent/dir/a.log"}}}, "W0412",
            "the directory /nonexistent/dir does not exist")}


@pytest.mark.parametrize("what", NO_START)
def test_what_the_next_start_refuses_is_warned_of(weir, backend, what):
    """By check and by reload; neither fails for it, for it may be meant for another machine."""
    change, code, words = NO_START[what]
    proxy = weir({}, backend)
    proxy.change(**change)
    for args in (("check", proxy.path), ("plan", "--admin", "unix:%s" % proxy.admin),
                 ("reload", "--admin", "unix:%s" % proxy.admin)):
        result = run(*args)
        assert result.returncode == 0, result
        faults = {fault["code"]: fault for fault in json.loads(result.stdout)["faults"]}
        assert words in faults[code]["message"] and faults[code]["note"], result
    proxy.stop()
    refused = run("run", "-c", proxy.path)
    assert refused.returncode == 75, refused


def test_fault_in_an_included_file_has_its_place(conf):
    main = conf('include = [ "weir.d/*.conf" ];\n' + GOOD)
    conf('\n\npools = { app = { endpoints = [ "127.0.0.1:9002" ]; }; };\n', "weir.d/10.conf")
    status, out = on_terminal("check", main)
    assert status == 78 and "W0105" in out and re.search(r"10\.conf:3:11", out), out
    assert "weir.conf:3" in out, out


# ---- dump ----

def dump_of(path, *args):
    result = run("dump", "-c", path, *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_dump_round_trip(conf):
    """The effective configuration loads again to the same."""
    text = GOOD.replace('bind =',
                        'limits = { headers = 50; }; timeouts = { header = "5s"; }; bind =')
    once = dump_of(conf(text))
    twice = dump_of(conf(once, "weir2.conf"))
    def values(dump):
        return [re.sub(r"\s*(#|//).*", "", line).strip() for line in dump.splitlines()]
    assert [v for v in values(once) if v] == [v for v in values(twice) if v]


def test_dump_tells_origins(conf):
    out = dump_of(conf(GOOD.replace('bind =', 'timeouts = { header = "5s"; }; bind =')), "--all")
    header = [line for line in out.splitlines() if re.match(r'\s*header = "5s"', line)]
    assert header and "weir.conf:1" in header[0], out
    assert any("default" in line for line in out.splitlines() if "idle" in line)


def test_dump_prints_no_secret(conf, authority, work):
    cert, key = authority.pem(["s.example"])
    (work / "s.crt").write_bytes(cert)
    (work / "s.key").write_bytes(key)
    (work / "s.key").chmod(0o600)
    text = GOOD.replace('bind =',
                        'tls = { certificates = ( { cert = "file:s.crt"; key = "file:s.key"; } '
                        '); }; bind =')
    out = dump_of(conf(text))
    assert "file:" in out and "s.key" in out and "BEGIN" not in out
    body = key.decode().split("\n")[1]
    assert body not in out


def test_secrets_from_the_environment(conf, authority):
    cert, key = authority.pem(["s.example"])
    env = {"WEIR_T_CERT": cert.decode(), "WEIR_T_KEY": key.decode()}
    text = GOOD.replace('bind =',
                        'tls = { certificates = ( { cert = "env:WEIR_T_CERT"; key = '
                        '"env:WEIR_T_KEY"; } ); }; bind =')
    result = run("dump", "-c", conf(text), env=env)
    assert result.returncode == 0 and "BEGIN" not in result.stdout
    assert run("check", conf(text), env=env).returncode == 0
    assert run("check", conf(text)).returncode == 78


# ---- the files in conf/ ----

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["minimal.conf", "full.conf", "sidecar.conf", "tcp.conf",
                                  "udp.conf"])
def test_shipped_files_are_good(name, tmp_path):
    path = ROOT / "conf" / name
    if name != "minimal.conf" and not path.exists():
        pytest.skip("conf/%s is not there" % name)
    result = run("check", path, env={"WEIR_T": "1"}, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


# ---- no weir at the other end ----

ADMIN = ("status", "drain", "reload", "plan", "metrics", "dump")
FORMS = {"status": True, "drain": True, "reload": True, "plan": True, "metrics": False,
         "dump": False}


def refused(command, *args, sock):
    """Exit 1; the sentence, in the form that answers have: JSON where they are, unless on a
    terminal or with --text."""
    result = run(command, *args)
    assert result.returncode == 1, result
    if FORMS[command]:
        answer = json.loads(result.stdout)
        assert answer["ok"] is False and not result.stderr
        text = run(command, *args, "--text")
        assert text.returncode == 1 and not text.stdout
        assert text.stderr == "weir: %s\n" % answer["error"]
        assert json.loads(run(command, *args, "--json").stdout) == answer
    else:  # what is printed may go to a file: nothing of this does
        assert not result.stdout and result.stderr.startswith("weir: ")
    status, shown = on_terminal(command, *args)
    assert status == 1 and shown.replace("\r", "").startswith("weir: ")
    assert str(sock) in shown.replace("\r\n", "")
    return shown


@pytest.mark.parametrize("command", ADMIN)
def test_admin_socket_is_missing(command, work):
    sock = work / "none.sock"
    shown = refused(command, "--admin", sock, sock=sock)
    assert "does not run" in shown and "--admin PATH" in shown


@pytest.mark.parametrize("command", ADMIN)
def test_admin_socket_is_dead(command, work):
    """The file is left, its weir is gone."""
    sock = work / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(sock))
        dead.listen()
    shown = refused(command, "--admin", sock, sock=sock)
    assert "does not run any more" in shown and "--admin PATH" in shown


@pytest.mark.parametrize("command", ["status", "drain", "reload", "plan", "metrics"])
def test_admin_socket_is_off(command, conf):
    path = conf('admin = { listen = "off"; };\n' + GOOD)
    shown = refused(command, "-c", path, sock="admin.listen")
    assert "no admin socket is configured" in shown


LOST = {"missing": None, "syntax": "listeners = {\n",
        "misspelt_group": 'admn = { listen = "auto"; };\n',
        "misspelt": 'admin = { lisen = "unix:/run/b.sock"; };\n', "type": "admin = 5;\n",
        "value": 'admin = { listen = "127.0.0.1:9"; };\n',
        "env": 'admin = { listen = "unix:${env:WEIR_T_NONE}/b.sock"; };\n',
        "include": 'include = "none.conf";\n'}


@pytest.mark.parametrize("command", ["status", "drain", "reload", "plan", "metrics"])
@pytest.mark.parametrize("fault", LOST)
def test_a_bad_file_leads_to_no_other_weir(weir, backend, conf, command, fault):
    """Whoever has the default socket is not the weir of a file that cannot be read."""
    other = weir({}, backend)
    path = conf((LOST[fault] or "") + GOOD)
    if LOST[fault] is None:
        path.unlink()
    env = {"RUNTIME_DIRECTORY": str(other.directory)}  # makes other's socket the default
    before = other.generation()
    for where, args in ((env, ("-c", path)), ({**env, "WEIR_CONFIG": str(path)}, ())):
        result = run(command, *args, env=where)
        assert result.returncode == 78, result
        said = result.stderr if command == "metrics" else json.loads(result.stdout)["error"]
        assert str(path) in said and "--admin PATH" in said and "admin.listen" in said
        if command != "metrics":
            answer = json.loads(result.stdout)
            assert answer["ok"] is False and answer["faults"][0]["code"][0] == "W"
            result = run(command, *args, "--text", env=where)
            assert result.returncode == 78 and not result.stdout
        assert str(path) in result.stderr and "[W" in result.stderr
    assert other.generation() == before and other.get("/").status == 200
    if not pathlib.Path("/etc/weir/weir.conf").exists():  # a machine's own weir would be meant
        asked = run("status", env={**env, "WEIR_CONFIG": ""}, cwd=path.parent)
        assert asked.returncode == 0, asked  # no file was named: the default socket is right
        bound = [each["bind"] for each in json.loads(asked.stdout)["listeners"]]
        assert bound == ["127.0.0.1:%d" % other.port]


def test_a_bad_file_leads_to_its_own_weir(weir, backend):
    """admin.listen counts, whatever else is wrong; of a reload the weir itself says what."""
    proxy = weir({}, backend)
    proxy.change(routes=[{"prefix": "/", "pool": "none"}])
    for command in ("status", "metrics"):
        assert run(command, "-c", proxy.path).returncode == 0
    result = run("reload", "-c", proxy.path)
    assert result.returncode == 78 and json.loads(result.stdout)["generation"] == 1
    result = run("reload", "-c", proxy.path, "--text")
    assert result.returncode == 78 and "generation 1 keeps running" in result.stderr
    proxy.path.write_text(proxy.path.read_text() + "nonsense = {};\n")
    assert run("status", "-c", proxy.path).returncode == 0
    assert run("drain", "-c", proxy.path).returncode == 0
    eventually(lambda: proxy.process.poll() == 0)
    result = run("status", "-c", proxy.path, "--text")  # it has faults, and its weir is gone
    assert result.returncode == 1 and str(proxy.admin) in result.stderr and "[W" in result.stderr


def defaulted(weir, backend, work):
    """A weir at the default socket of the environment that comes with it."""
    env = {"RUNTIME_DIRECTORY": str(work / "run")}
    (work / "run").mkdir()
    return weir({"admin": {"listen": None}}, backend, env=env), env


def test_a_file_without_a_socket_leads_to_the_default(weir, backend, work):
    """A fault elsewhere does not hide admin.listen, which is not there."""
    proxy, env = defaulted(weir, backend, work)
    proxy.change(routes=[{"prefix": "/", "pool": "none"}])
    assert run("check", proxy.path).returncode == 78
    assert run("status", "-c", proxy.path, env=env).returncode == 0


@pytest.mark.parametrize("command", ["status", "drain", "reload", "plan", "metrics"])
def test_a_command_acts_on_no_other_weir(weir, backend, work, command):
    """Two weirs, one default socket: who has it is not the weir of the other's file."""
    first, env = defaulted(weir, backend, work)
    second = weir({"admin": {"listen": None}}, backend, env=env)
    second.stderr_has("going on without an admin socket")
    before = first.generation()
    for args in (("-c", second.path), ("-c", second.path.name), ()):
        where = env if args else {**env, "WEIR_CONFIG": str(second.path)}
        result = run(command, *args, env=where, cwd=second.directory)
        assert result.returncode == 1, result
        said = result.stderr if command == "metrics" else json.loads(result.stdout)["error"]
        for word in (first.path, args[1] if args else second.path, "admin.listen", "--admin PATH"):
            assert str(word) in said
        assert ("weir plan %s" % args[1] in said) == (command == "plan") if args else True
    assert first.generation() == before == 1 and first.get("/").status == 200
    told = {path: run(command, *args, env=env).returncode for path, args in {
        "none": (), "socket": ("--admin", work / "run" / "admin.sock", "-c", second.path),
        "file": ("-c", first.path)}.items() if command != "drain"}
    assert not any(told.values()), told
    assert first.get("/").status == second.get("/").status == 200


def test_the_file_of_a_weir_by_other_paths(weir, backend, work):
    """By a link, from another directory; and the path it was started with, wherever that leads."""
    proxy, env = defaulted(weir, backend, work)
    (work / "link.conf").symlink_to(proxy.path)
    (work / "hard.conf").hardlink_to(proxy.path)
    for path, cwd in ((work / "link.conf", None), (work / "hard.conf", None),
                      (proxy.path.name, proxy.directory), ("../link.conf", work / "run")):
        result = run("reload", "-c", path, env=env, cwd=cwd)
        assert result.returncode == 0, result
    assert run("plan", "-c", "link.conf", proxy.path, env=env, cwd=work).returncode == 0
    for number in range(2):  # as a deploy does it
        target = work / ("release%d.conf" % number)
        target.write_text(proxy.path.read_text())
        (work / "fresh").symlink_to(target)
        (work / "fresh").rename(proxy.path)
        for path in (proxy.path, target):
            assert run("reload", "-c", path, env=env).returncode == 0
    assert run("reload", "-c", work / "release0.conf", env=env).returncode == 1
    proxy.path.unlink()  # 78: it is this weir that says that the file is gone
    assert "generation" in run("reload", env={**env, "WEIR_ADMIN": str(work / "run/admin.sock")},
                               ).stdout


def test_a_weir_without_a_file_is_no_weir_of_a_file(backend, work, conf):
    """And one of before the question is taken at its socket."""
    sock, port = work / "admin.sock", proc.free_port()
    path = conf('admin = { listen = "unix:%s"; };\n' % sock + GOOD)
    process = subprocess.Popen([binary(), "proxy", "--admin", sock, str(port), backend.address],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=proc.die_with_parent)
    eventually(lambda: run("status", "--admin", sock).returncode == 0)
    result = run("drain", "-c", path, "--text")
    assert result.returncode == 1 and str(path) in result.stderr, result
    assert "is that of weir proxy" in result.stderr and process.poll() is None
    process.terminate()
    assert process.wait(40) == 0
    seen = []

    def old(server):
        for answer in (b"2\nunknown\n", b"0\nas ever\n"):
            conn, _ = server.accept()
            with conn, conn.makefile("rb") as line:
                seen.append(line.readline())
                conn.sendall(answer)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        server.listen()
        thread = threading.Thread(target=old, args=(server,), daemon=True)
        thread.start()
        result = run("drain", "-c", path, "--text")
        thread.join(30)
    assert result.returncode == 0 and result.stdout == "as ever\n", result
    assert seen == [b"file\n", b"drain\n"]


def test_health_without_a_weir(work):
    address = "127.0.0.1:%d" % proc.free_port()
    for args in (("--status", address), (address,), ("unix:%s" % (work / "none.sock"),)):
        result = run("health", *args)
        assert result.returncode == 1 and not result.stderr
        error = json.loads(result.stdout)["error"]
        assert args[-1] in error and "is weir running" in error and "--status ADDRESS" in error
        text = run("health", *args, "--text")
        assert text.returncode == 1 and text.stderr == "weir: %s\n" % error


def test_health_without_a_status_port(conf):
    result = run("health", "-c", conf('admin = { status = "off"; };\n' + GOOD), "--text")
    assert result.returncode == 1 and "admin.status" in result.stderr


def test_health(weir, backend):
    proxy = weir({}, backend)
    for args in (("-c", proxy.path), ("127.0.0.1:%d" % proxy.status,)):
        result = run("health", *args)
        assert result.returncode == 0 and json.loads(result.stdout) == {"ok": True}
        assert run("health", *args, "--text").stdout == "ready\n"


# ---- starting ----

def test_bind_in_use(conf):
    """Exit 75 and one line that names the address, even to another socket of the same user."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run("run", "-c", conf('admin = { listen = "off"; };\n'
                                       + GOOD.replace("127.0.0.1:8080", address)))
    assert result.returncode == 75, result
    assert address in result.stderr + result.stdout


def test_two_weirs_do_not_share_a_port(weir, backend):
    first = weir({}, backend)
    second = weir({"listeners": {"web": {"bind": "127.0.0.1:%d" % first.port}}}, backend,
                  start=False)
    result = run("run", "-c", second.path)
    assert result.returncode == 75 and str(first.port) in result.stderr + result.stdout
    assert first.get("/still").status == 200


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up rights")
def test_privileged_port_without_rights(conf):
    """Ports below 1024 by a user that may not: 75 and a sentence."""
    text = 'admin = { listen = "off"; };\n' + GOOD.replace("127.0.0.1:8080", "127.0.0.1:81")
    path = conf(text)

    def unprivileged():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    path.chmod(0o644)
    limit = pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    result = subprocess.run([binary(), "run", "-c", str(path)], capture_output=True, text=True,
                            timeout=60,
                            preexec_fn=unprivileged, check=False) if int(limit) > 81 else None
    if result is None:
        pytest.skip("this kernel lets anyone bind port 81")
    assert result.returncode == 75 and "81" in result.stderr + result.stdout, result


def test_proxy_without_a_file(backend):
    """weir proxy FROM TO: no file needed."""
    from harness import client
    port = proc.free_port()
    process = subprocess.Popen([binary(), "proxy", "127.0.0.1:%d" % port, backend.address],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            preexec_fn=proc.die_with_parent)

    def served():
        """weir proxy answers"""
        assert process.poll() is None, process.stderr.read()
        try:
            with client.Client(port) as conn:
                return conn.get("/p").body == b"GET /p"
        except OSError:
            return False
    eventually(served)
    process.terminate()
    assert process.wait(40) == 0


@pytest.mark.parametrize("scheme,said", [("", "http://127.0.0.1:%d/ forwards to 127.0.0.1:9"),
                                         ("tcp://", "tcp://127.0.0.1:%d forwards to 127.0.0.1:9")])
def test_proxy_says_where_it_listens(scheme, said):
    """To a person; a program that reads its log finds lines of the log only."""
    port = proc.free_port()
    command = [binary(), "proxy", "%s%d" % (scheme, port), "127.0.0.1:9"]
    master, slave = pty.openpty()
    shown, lines = b"", b""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave,
                               preexec_fn=proc.die_with_parent)
    os.close(slave)
    while b"Ctrl-C" not in shown:
        shown += os.read(master, 4096)
    assert said % port in shown.decode(), shown
    process.terminate()
    assert process.wait(40) == 0
    os.close(master)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               preexec_fn=proc.die_with_parent)
    while b"runs: generation 1" not in lines:
        line = process.stderr.readline()
        assert line, lines
        lines += line
    process.terminate()
    lines += process.communicate(timeout=40)[0] or b""
    for line in lines.splitlines():
        json.loads(line)


def test_what_is_said_to_a_program_is_json(weir, backend, authority, work):
    """Warnings at the start too, and after a reload at the same level."""
    leaf = authority.leaf(["a.example"])
    os.chmod(leaf["key"].removeprefix("file:"), 0o644)
    env = {"RUNTIME_DIRECTORY": str(work)}
    first = weir({"admin": {"listen": None}}, backend, env=env)
    second = weir({"admin": {"listen": None}, "listeners": {"web": {
        "tls": {"certificates": [leaf]}}}}, backend, env=env)
    assert run("status", "--admin", work / "admin.sock").returncode == 0
    second.reload()
    second.change(listeners={"web": {"redirect_https": True}})
    second.signal(signal.SIGHUP)
    second.stderr_has("reload refused: ")
    second.stop()
    first.stop()
    told = [json.loads(line) for line in second.stderr]
    levels = [(line["level"], line["message"].split(":")[0]) for line in told
              if line["level"] != "info"]
    assert levels == [("warn", "cannot bind unix"), ("warn", "warning[W0403]"),
                      ("warn", "reloaded"), ("error", "reload refused")], told
    assert "going on without an admin socket" in told[0]["message"]
    assert all(line["level"] == "info" for line in map(json.loads, first.stderr))


def test_what_keeps_weir_from_starting_is_text(conf, work):
    """On stderr, wherever the log goes."""
    text = 'log = { to = "%s"; };\nadmin = { listen = "off"; };\n' % (work / "log") + GOOD
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run("run", "-c", conf(text.replace("127.0.0.1:8080", address)))
    assert result.returncode == 75 and result.stderr.startswith("weir: cannot bind " + address)
    result = run("run", "-c", conf(text.replace("prefix", "prefx")))
    assert result.returncode == 78 and result.stderr.startswith("error[W0101]")


def test_demo_is_a_whole_service():
    """weir demo: origin, http and https by itself."""
    from harness import client
    import ssl
    process = subprocess.Popen([binary(), "demo"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT,
                               preexec_fn=proc.die_with_parent)
    context = ssl._create_unverified_context()

    def served():
        """weir demo answers on 8080 and 8443"""
        if process.poll() is not None:
            text = process.stdout.read().decode()
            if "8080" in text and process.returncode == 75:
                pytest.skip("port 8080 is in use here")
            raise AssertionError(text)
        try:
            with client.Client(8080) as conn, client.Client(8443, tls=context,
                                                            sni="localhost") as safe:
                return conn.get("/", host="localhost").status == safe.get(
                    "/", host="localhost").status == 200
        except OSError:
            return False
    eventually(served)
    process.terminate()
    assert process.wait(40) == 0


def test_confgen_is_accepted(conf):
    """What the harness writes is what weir reads: quotes, escapes, lists of one."""
    text = confgen.body({"listeners": {"w-1": {"bind": ["127.0.0.1:81"]}}, "routes": [
        {"prefix": "/",
         "respond": {"status": 200, "body": 'tab\there "quoted" back\\slash\nline'}}]})
    result = run("check", conf(text))
    assert result.returncode == 0, result.stdout + result.stderr
