"""Encrypted Client Hello: the inner name decides where there is a key for it; else the outer one,
with a certificate for it and the keys of today (draft-ietf-tls-esni). The client is BoringSSL."""
import base64

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from harness import ech, proc
from harness.mtls import client_mint, row  # noqa: F401
from harness.weir import eventually, run

PUBLIC, HIDDEN = "public.example", "hidden.example"


@pytest.fixture(scope="session")
def ech_client(session_dir):
    return ech.build(session_dir)


@pytest.fixture
def site(weir, backend, authority, work, ech_client):
    class Site:
        def __init__(self, pem, **tls):
            self.port, self.path = proc.free_port(), work / "ech.pem"
            self.write(pem)
            rows = [dict(names=[name], **authority.leaf([name], stem=name.split(".")[0]))
                    for name in (PUBLIC, HIDDEN)]
            self.conf = {"listeners": {"tls": {"bind": "127.0.0.1:%d" % self.port, "tls": dict(
                {"certificates": rows, "ech": "file:%s" % self.path}, **tls)}}}

        def start(self):
            self.weir = weir(self.conf, backend)
            return self

        def write(self, pem):
            self.path.touch(mode=0o600)
            self.path.write_text(pem)

        def visit(self, how, name=HIDDEN, cert=None):
            if isinstance(how, bytes):
                path = work / "list"
                path.write_bytes(how)
                how = path
            return {key: value.strip() for key, value in ech.visit(
                ech_client, self.port, name, authority.path, how,
                *([cert] if cert else [])).items()}

        def count(self, result):
            return self.weir.metric("weir_tls_ech_total", result=result)

        def check(self):
            made = weir(self.conf, backend, start=False)
            result = run("check", made.path)
            return result.returncode, result.stdout + result.stderr
    return Site


def test_hidden_name_is_served(site):
    """The certificate, the route's host and the log go by the inner name."""
    keys = ech.Keys(PUBLIC)
    made = site(keys.pem).start()
    for _ in range(3):
        said = made.visit(keys.config_list)
        assert said["ech"] == "1" and said["certificate"] == HIDDEN
        assert said["answer"] == "HTTP/1.1 200"
    record = made.weir.logged(3, path="/ech")
    assert record["tls.ech"] is True and record["server.address"] == HIDDEN
    assert made.count("accepted") == 3 and made.count("refused") == 0


def test_without_it_all_is_as_before(site):
    made = site(ech.Keys(PUBLIC).pem).start()
    said = made.visit("none")
    assert said["ech"] == "0" and said["answer"] == "HTTP/1.1 200"
    assert "tls.ech" not in made.weir.logged(1, path="/ech")
    assert made.count("accepted") == 0 and made.count("refused") == 0


def test_grease_is_no_fault(site):
    """A client that knows no keys and sends noise is served under the name it said."""
    made = site(ech.Keys(PUBLIC).pem).start()
    said = made.visit("grease")
    assert said["ech"] == "0" and said["certificate"] == HIDDEN
    assert said["answer"] == "HTTP/1.1 200"
    assert "tls.ech" not in made.weir.logged(1, path="/ech")
    assert made.count("refused") == 1


def test_old_keys_are_told_the_new_ones(site):
    """Refused under the outer name's certificate; what it is told works."""
    old, new = ech.Keys(PUBLIC), ech.Keys(PUBLIC)
    made = site(new.pem).start()
    said = made.visit(old.config_list)
    assert said["refused"] == "ECH_REJECTED" and said["outer"] == PUBLIC
    assert said["certificate"] == PUBLIC
    told = base64.b64decode(said["retry"])
    assert told == new.config_list
    assert made.visit(told)["ech"] == "1"
    eventually(lambda: made.count("refused") == 1 and made.count("accepted") == 1)


def test_older_pairs_are_opened_but_not_told(site):
    old, new, none = ech.Keys(PUBLIC), ech.Keys(PUBLIC), ech.Keys(PUBLIC)
    made = site(new.pem + old.pem).start()
    assert made.visit(old.config_list)["ech"] == "1"
    assert made.visit(new.config_list)["ech"] == "1"
    assert base64.b64decode(made.visit(none.config_list)["retry"]) == new.config_list


def test_file_is_watched(site):
    old, new = ech.Keys(PUBLIC), ech.Keys(PUBLIC)
    made = site(old.pem).start()
    assert made.visit(old.config_list)["ech"] == "1"
    made.write(new.pem + old.pem)
    eventually(lambda: made.visit(new.config_list).get("ech") == "1")
    made.write("nothing\n")
    made.weir.stderr_has("ECH keys")
    assert made.visit(new.config_list)["ech"] == "1"


def test_listener_without_keys(site):
    """It takes the outer name for what it is."""
    keys = ech.Keys(PUBLIC)
    made = site(keys.pem)
    made.conf["listeners"]["tls"]["tls"]["ech"] = None
    made.start()
    assert made.visit(keys.config_list)["certificate"] == PUBLIC
    assert made.count("refused") == 0


def broken(pem, kind):
    key, config = pem.split("-----BEGIN ECHCONFIG-----")
    config = "-----BEGIN ECHCONFIG-----" + config
    other = ech.Keys(PUBLIC).pem.split("-----BEGIN ECHCONFIG-----")[0]
    return {"empty": "nothing\n", "no key": config, "no config": key,
            "another key": other + config, "cut": pem[:-20],
            "large": pem + "\n" * (1 << 20),
            "damaged": key + config.replace("AE", "AQ", 1)}[kind]


@pytest.mark.parametrize("kind", ["empty", "no key", "no config", "another key", "cut", "damaged",
                                  "large"])
def test_bad_file(site, kind):
    code, text = site(broken(ech.Keys(PUBLIC).pem, kind)).check()
    assert code and "ECH keys" in text and "ech.pem" in text, text


def test_public_name_needs_a_certificate(site):
    code, text = site(ech.Keys("other.example").pem).check()
    assert code and "other.example" in text, text


def test_needs_tls_1_3(site):
    code, text = site(ech.Keys(PUBLIC).pem, max_version="1.2").check()
    assert code and "W0196" in text, text


@pytest.mark.parametrize("words", [[], ["*.example.com"], ["a b"], ["a.example", "b.example"]])
def test_command_wants_a_name(words):
    assert run("ech-keys", *words).returncode == 2


@pytest.mark.parametrize("how", ["keys", "grease"])
def test_resumption_with_client_certificates(site, mint, work, how):
    """A ticket holds the certificates, and such a hello may have it twice: those that would
    not fit get none, and every visit is answered."""
    keys = ech.Keys(PUBLIC)
    made = site(keys.pem, client=[row(mint.root)]).start()
    for count in (1, 100, 140, 160, 250, 360, 400):
        cert = mint.client(*("dns:a-name-that-is-long-%d.example" % i for i in range(count)))
        size = len(cert.cert.public_bytes(Encoding.DER))
        both = work / "both.pem"
        both.write_bytes(cert.path.read_bytes() + cert.key_path.read_bytes())
        said = made.visit(keys.config_list if how == "keys" else how, cert=both)
        assert said.get("answer") == "HTTP/1.1 200", (size, said)
        assert said["ech"] == ("1" if how == "keys" else "0")
        assert said["reused"] == ("1" if size < 5000 else "0"), (size, said)
