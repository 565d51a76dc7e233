"""CRLs of client certificates (tls.client.crl): which are taken for the list of an issuer, and for
which certificates. RFC 5280 sections 5.2 and 6.3. Their times: test_mtls.py."""
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from harness import certs
from harness.mtls import client_mint, make_site, mtls_site, put, row, tls_group  # noqa: F401
from harness.tlspeers import DAY, Cert
from harness.weir import run

HERE = [x509.UniformResourceIdentifier("http://crl.example/one.crl")]
REVOKED, BAD = "client.tls.certificate_revoked", "client.tls.crl_bad"


def scope(**parts):
    """An issuing distribution point, critical as it must be."""
    keys = {"full_name": None, "relative_name": None, "only_contains_user_certs": False,
            "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
            "only_contains_attribute_certs": False, **parts}
    return x509.IssuingDistributionPoint(**keys), True


def lists(mint, *revoked, issuer=None, has=(), entry=None, age=1, now=None):
    """A file with a CRL of issuer with these extensions; entry: one of each revoked."""
    issuer, now = issuer or mint.root, now or datetime.datetime.utcnow()
    builder = (x509.CertificateRevocationListBuilder().issuer_name(issuer.cert.subject)
               .last_update(now - age * DAY).next_update(now + 20 * DAY))
    for extension, critical in has:
        builder = builder.add_extension(extension, critical)
    for each in revoked:
        one = (x509.RevokedCertificateBuilder().serial_number(each.cert.serial_number)
               .revocation_date(now - DAY))
        builder = builder.add_revoked_certificate(
            (one.add_extension(entry, True) if entry else one).build())
    mint.count += 1
    path = mint.directory / ("scoped-%d.crl" % mint.count)
    path.write_bytes(builder.sign(issuer.key, hashes.SHA256()).public_bytes(certs.PEM))
    return path


def pointed(mint, points):
    """A client's certificate that says where its CRL is."""
    like, key = mint.client(), certs.new_key("ec")
    point = x509.DistributionPoint(points, None, None, None)
    cert = (x509.CertificateBuilder().subject_name(like.cert.subject)
            .issuer_name(mint.root.cert.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(like.cert.not_valid_before)
            .not_valid_after(like.cert.not_valid_after)
            .add_extension(x509.CRLDistributionPoints([point]), False)
            .sign(mint.root.key, hashes.SHA256()))
    mint.count += 1
    return Cert(mint.directory, "pointed-%d" % mint.count, cert, key, mint.root)


DELTA = [(x509.CRLNumber(8), False), (x509.DeltaCRLIndicator(7), True)]
SOME = frozenset([x509.ReasonFlags.key_compromise])
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
UNUSABLE = {
    "delta": (DELTA, None, "a delta CRL"),
    "delta-not-critical": ([(x509.CRLNumber(8), False), (x509.DeltaCRLIndicator(7), False)], None,
                           "a delta CRL"),
    "indirect": ([scope(indirect_crl=True)], None, "an indirect CRL"),
    "reasons": ([scope(only_some_reasons=SOME)], None, "some reasons only"),
    "attributes": ([scope(only_contains_attribute_certs=True)], None, "attribute certificates"),
    "unknown": ([(STRANGE, True)], None, "critical extension that is not known"),
    "entry": ([], x509.CertificateIssuer([x509.DirectoryName(x509.Name([]))]), "has an entry"),
}


@pytest.mark.parametrize("which", UNUSABLE)
@pytest.mark.parametrize("beside", ["alone", "before", "after"])
def test_what_is_no_complete_list_starts_nothing(weir, authority, backend, mint, which, beside):
    """It would pass for the list of its issuer, and lets in whom it does not name."""
    has, entry, says = UNUSABLE[which]
    client = mint.client()
    base = lists(mint, client, age=3)
    bad = lists(mint, *([mint.client()] if entry else []), has=has, entry=entry)
    crls = {"alone": [bad], "before": [bad, base], "after": [base, bad]}[beside]
    made = weir({"listeners": {"tls": {"bind": "127.0.0.1:1", "tls": tls_group(
        authority, client=[row(mint.root, crl=crls)])}}}, backend, start=False)
    done = run("check", made.path)
    told = done.stdout + done.stderr
    assert done.returncode == 78 and "W0306" in told, told
    assert "%s: a CRL in it" % bad.name in told and says in told, told


def test_what_is_harmless_is_taken(site, mint):
    """A number, and what is unknown but not critical."""
    gone, good = mint.client(), mint.client()
    made = site(row(mint.root, crl=[lists(mint, gone, has=[
        (x509.CRLNumber(7), False), (STRANGE, False)])]))
    assert made.visit(good).status == 200
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)


def test_a_renewal_does_not_take_it(site, mint):
    """The last good list stays, whatever the file has become; then a good one is taken again."""
    gone, next_gone, good = mint.client(), mint.client(), mint.client()
    crl = lists(mint, gone, age=3)
    made = site(row(mint.root, crl=[crl]))
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)
    put(crl, lists(mint, next_gone, has=DELTA).read_bytes())
    made.front.stderr_has("a delta CRL")
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)
    assert made.visit(good).status == 200 and made.visit(next_gone).status == 200
    put(crl, lists(mint, gone, next_gone).read_bytes())
    made.front.stderr_has("changed certificates or keys are in service")
    made.refused(REVOKED, "CERTIFICATE_REVOKED", next_gone)


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (7, 7), None], ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["first", "last"])
def test_two_of_the_same_second(site, mint, numbers, turned):
    """Both are as new as can be: each of them counts, in whatever order they stand."""
    gone, good = mint.client(), mint.client()
    numbered = [[(x509.CRLNumber(each), False)] for each in numbers or ()] or [[], []]
    now = datetime.datetime.utcnow().replace(microsecond=0)
    both = [lists(mint, gone, has=numbered[0], now=now), lists(mint, has=numbered[1], now=now)]
    made = site(row(mint.root, crl=both[::-1] if turned else both))
    assert made.visit(good).status == 200
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)


@pytest.mark.parametrize("turned", [False, True], ids=["first", "last"])
def test_a_newer_one_takes_the_place(site, mint, turned):
    """Who is let go by it (a hold that is over) is let in, also where the older one says more."""
    held, gone = mint.client(), mint.client()
    both = [lists(mint, held, age=2), lists(mint, gone)]
    made = site(row(mint.root, crl=both[::-1] if turned else both))
    assert made.visit(held).status == 200
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)


# ---- for which certificates a list is ----

def test_a_list_of_leaves_only(site, mint):
    """The CA itself, which the list is not for, needs none: it is trusted by the configuration."""
    gone, good = mint.client(), mint.client()
    made = site(row(mint.root, crl=[lists(mint, gone, has=[
        scope(only_contains_user_certs=True)])]))
    assert made.visit(good).status == 200
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)


@pytest.mark.parametrize("more", [{}, {"only_contains_user_certs": True}], ids=["all", "leaves"])
def test_a_list_of_one_distribution_point(site, mint, more):
    gone, good = pointed(mint, HERE), pointed(mint, HERE)
    elsewhere = pointed(mint, [x509.UniformResourceIdentifier("http://crl.example/two.crl")])
    made = site(row(mint.root, crl=[lists(mint, gone, has=[scope(full_name=HERE, **more)])]))
    assert made.visit(good).status == 200
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)
    made.refused(BAD, "CERTIFICATE_UNKNOWN", elsewhere)
    made.refused(BAD, "CERTIFICATE_UNKNOWN", mint.client())


def test_lists_of_leaves_and_of_cas(site, mint):
    """Each certificate in between has to be on its own: one for leaves says nothing of it."""
    between = mint.make("between", ca=True, issuer=mint.root)
    fallen = mint.make("fallen", ca=True, issuer=mint.root)
    leaves = lists(mint, has=[scope(only_contains_user_certs=True)])
    cas = lists(mint, fallen, has=[scope(only_contains_ca_certs=True)])
    gone = mint.client(issuer=between).write(between)
    below = [lists(mint, gone, issuer=between), lists(mint, issuer=fallen)]
    made = site(row(mint.root, names=["a.example"], crl=[leaves, cas, *below]),
                row(mint.root, names=["b.example"], crl=[leaves, *below]),
                row(mint.root, names=["c.example"], crl=[cas, *below]))
    good = mint.client(issuer=between).write(between)
    assert made.visit(good).status == 200
    assert made.visit(good, sni="c.example").status == 200
    made.refused(BAD, "CERTIFICATE_UNKNOWN", good, sni="b.example")
    made.refused(BAD, "CERTIFICATE_UNKNOWN", mint.client(), sni="c.example")
    made.refused(REVOKED, "CERTIFICATE_REVOKED", gone)
    made.refused(REVOKED, "CERTIFICATE_REVOKED", mint.client(issuer=fallen).write(fallen))


def test_a_trusted_one_that_is_revoked(site, mint):
    """That the CA is trusted does not help where its own issuer's list has it."""
    between = mint.make("between", ca=True, issuer=mint.root)
    made = site(row(between, crl=[lists(mint, between), lists(mint, issuer=between)],
                    names=["a.example"]),
                row(between, crl=[lists(mint, issuer=between)], names=["b.example"]))
    client = mint.client(issuer=between)
    assert made.visit(client, sni="b.example").status == 200
