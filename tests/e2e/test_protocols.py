"""listeners.*.protocols and listeners.*.h2 as a person sees them: faults with their next step, the
effective configuration. What clients are offered: test_tls.py."""
import json

import pytest

from harness.weir import run

FORM = """listeners = {
  web = { bind = "127.0.0.1:8080"; %s };
};
pools = { app = { endpoints = "127.0.0.1:9001"; }; };
routes = ( { pool = "app"; } );
"""


@pytest.fixture
def conf(work, authority):
    """Writes a file whose listener has these keys; @ is its tls."""
    leaf = authority.leaf(["a.example"], stem="protocols")
    tls = 'tls = { certificates = ( { cert = "%(cert)s"; key = "%(key)s"; } ); };' % leaf

    def write(keys):
        path = work / "weir.conf"
        path.write_text(FORM % keys.replace("@", tls))
        return path
    return write


def faults_of(result):
    faults = json.loads(result.stdout.strip() or result.stderr)
    return faults if isinstance(faults, list) else faults["faults"]


@pytest.mark.parametrize("keys,code,marked,words", [
    ("protocols = [ ];", "W0116", "[ ]", 'listeners.*.protocols is empty'),
    ("protocols = [ ];", "W0116", "[ ]", 'like [ "http/1.1" ]'),
    ('protocols = [ "h2c", "h2c" ];', "W0117", '"h2c" ]', '"h2c" stands twice'),
    ('@ protocols = [ "h2", "h2c" ];', "W0170", '"h2c"', 'use "h2"'),
    ('protocols = "h2";', "W0171", '"h2"', 'use "h2c", for clients that know before; or add tls'),
    ('protocols = "h2d";', "W0205", '"h2d"', "known: h2 http/1.1 h2c"),
    ('protocols = "http/2";', "W0205", '"http/2"', 'HTTP/2 is "h2", or "h2c" without TLS'),
    ('@ protocols = "http/1.2";', "W0205", '"http/1.2"', 'did you mean "http/1.1"?'),
    ('@ protocols = "h3";', "W0102", '"h3"', "h3 is not in this version"),
    ('@ h2 = { window = "64KiB"; stream_window = "1MiB"; };', "W0172", '"64KiB"', "raise it"),
    ("@ h2 = { streams = 5000; };", "W0204", "5000", "1 to 4096"),
    ('@ h2 = { stream = 5; };', "W0101", "stream ", 'did you mean "streams"?'),
])
def test_faults(conf, keys, code, marked, words):
    path = conf(keys)
    result = run("check", path)
    line = path.read_text().splitlines()[1]
    [fault] = faults_of(result)
    assert result.returncode == 78 and fault["level"] == "error" and fault["code"] == code, fault
    assert (fault["line"], fault["column"]) == (2, line.rindex(marked) + 1), fault
    assert words in fault["message"] + " | " + fault.get("note", ""), fault


@pytest.mark.parametrize("keys,key", [
    ("h2 = { streams = 5; };", "h2.streams"), ('@ protocols = "http/1.1"; h2 = { age = "1h"; };',
                                               "h2.age")])
def test_h2_without_effect(conf, keys, key):
    result = run("check", conf(keys))
    [fault] = faults_of(result)
    assert result.returncode == 0 and fault["level"] == "warning", result
    assert fault["code"] == "W0470" and key + " has no effect" in fault["message"], fault


@pytest.mark.parametrize("keys,lines", [
    ("", ['protocols = [ "http/1.1" ];  # default', "streams = 128;  # default",
          'stream_window = "64KiB";  # default', 'window = "1MiB";  # default',
          "resets = 100;  # default", "glitches = 1000;  # default", 'age = "0s";  # default']),
    ("@", ['protocols = [ "h2", "http/1.1" ];  # default']),
    ('@ protocols = [ "http/1.1", "h2" ]; h2 = { streams = 7; window = "2MiB"; age = "1h"; };',
     ['protocols = [ "http/1.1", "h2" ];  # weir.conf:2', "streams = 7;  # weir.conf:2",
      'window = "2MiB";  # weir.conf:2', 'age = "1h";  # weir.conf:2',
      'stream_window = "64KiB";  # default']),
])
def test_dump(conf, work, keys, lines):
    result = run("dump", "--all", "-c", conf(keys))
    shown = [line.strip() for line in result.stdout.splitlines()]
    assert result.returncode == 0 and set(lines) <= set(shown), result
    again = work / "again.conf"
    again.write_text(result.stdout)
    checked = run("check", again)
    assert checked.returncode == 0 and not faults_of(checked), checked
