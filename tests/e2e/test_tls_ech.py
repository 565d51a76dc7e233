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

        def over_tcp(self):
            """The same listener with protocol = "tcp", before the same backend."""
            self.conf["listeners"]["tls"].update(protocol="tcp", pool="db")
            self.conf.update(pools={"db": {"endpoints": [backend.address]}},
                             routes=[{"prefix": "/", "respond": {"status": 404}}])
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


# ---- protocol = "tcp" ----

def test_over_tcp(site):
    keys = ech.Keys(PUBLIC)
    made = site(keys.pem).over_tcp().start()
    said = made.visit(keys.config_list)
    assert said["ech"] == "1" and said["certificate"] == HIDDEN
    assert said["answer"] == "HTTP/1.1 200"
    record = made.weir.logged(1)
    assert record["tls.ech"] is True and record["server.address"] == HIDDEN
    assert made.count("accepted") == 1 and made.count("refused") == 0


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("how", ["accepted", "refused"])
def test_handshakes_that_fail_are_counted(site, mint, tcp, how):
    """What became of ECH is counted, whatever becomes of the handshake."""
    keys = ech.Keys(PUBLIC)
    made = site(keys.pem, client=[row(mint.root)])
    (made.over_tcp() if tcp else made).start()
    for count in (1, 2):
        made.visit(keys.config_list if how == "accepted" else "grease")
        record = made.weir.logged(count, end="client.tls.certificate_required")
        assert record["server.address"] == HIDDEN
        assert made.weir.metric("weir_tls_handshake_failures_total") == count
        assert made.count(how) == count
    assert made.count("accepted") + made.count("refused") == 2


def both_of(work, cert):
    path = work / "both.pem"
    path.write_bytes(cert.path.read_bytes() + cert.key_path.read_bytes())
    return path


@pytest.mark.parametrize("tcp", [False, True])
def test_rows_of_clients_go_by_the_inner_name(site, mint, work, tcp):
    """Whatever is asked of the public name's clients: it lets nobody in under a hidden one."""
    keys, both = ech.Keys(PUBLIC), both_of(work, mint.client())
    made = site(keys.pem, client=[row(mint.root, names=[HIDDEN]),
                                  row(mint.root, names=[PUBLIC], verify="optional")])
    (made.over_tcp() if tcp else made).start()
    assert "answer" not in made.visit(keys.config_list)
    record = made.weir.logged(1, end="client.tls.certificate_required")
    assert record["tls.ech"] is True
    assert made.visit(keys.config_list, name=PUBLIC)["answer"] == "HTTP/1.1 200"
    said = made.visit(keys.config_list, cert=both)
    assert said["answer"] == "HTTP/1.1 200" and said["ech"] == "1" and said["reused"] == "1"


@pytest.mark.parametrize("verify", ["required", "optional"])
def test_rows_do_not_keep_new_keys_from_clients(site, mint, work, verify):
    """Over TCP too: the public name's row lets a client with old keys learn those of today, even
    where it asks for a certificate, which nobody shows under a name that was not meant."""
    old, new, both = ech.Keys(PUBLIC), ech.Keys(PUBLIC), both_of(work, mint.client())
    made = site(new.pem, client=[row(mint.root, names=[HIDDEN]),
                                 row(mint.root, names=[PUBLIC], verify=verify)]).over_tcp().start()
    said = made.visit(old.config_list, cert=both)
    assert said["refused"] == "ECH_REJECTED" and said["certificate"] == PUBLIC, said
    assert base64.b64decode(said["retry"]) == new.config_list
    assert made.visit(new.config_list, cert=both)["answer"] == "HTTP/1.1 200"


@pytest.mark.parametrize("names,tcp,good", [
    ([[HIDDEN]], True, False), ([[HIDDEN]], False, True), ([[HIDDEN, PUBLIC]], True, True),
    ([[HIDDEN], None], True, True), ([["*.example"]], True, True), ([], True, True)])
def test_public_name_needs_a_row_over_tcp(site, mint, names, tcp, good):
    """Where a name without a row is refused, no client with old keys could be told new ones."""
    rows = [row(mint.root, **({"names": each} if each else {})) for each in names]
    made = site(ech.Keys(PUBLIC.upper()).pem, **({"client": rows} if rows else {}))
    code, text = (made.over_tcp() if tcp else made).check()
    assert (code == 0) == good, text
    assert good or ("W0306" in text and PUBLIC in text.lower() and "tls.client" in text), text


def test_a_file_for_another_public_name_over_tcp(site, mint):
    """A pair whose public name no row is for does not take the place of one that is good."""
    good, other = ech.Keys(PUBLIC), ech.Keys("third.example")
    made = site(good.pem, client=[row(mint.root, names=[PUBLIC], verify="optional")])
    rows = made.conf["listeners"]["tls"]["tls"]["certificates"]
    rows[1]["default"] = True  # it serves any name
    made.over_tcp().start()
    made.write(other.pem)
    made.weir.stderr_has("third.example")
    assert made.visit(good.config_list, name=PUBLIC)["ech"] == "1"
