"""Encrypted Client Hello: keys by `weir ech-keys`, and tools/ech_client.c with the BoringSSL that
the tree is built with (packaging/deps/boringssl.sh prints where it is)."""
import base64
import pathlib
import re
import subprocess

from .weir import ROOT, run

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "tools" / "ech_client.c"


def build(directory):
    """Compiles the client; its path."""
    prefix = subprocess.run([ROOT / "packaging/deps/boringssl.sh"], capture_output=True, text=True,
                            timeout=1800, check=True).stdout.strip()
    out = pathlib.Path(directory) / "ech_client"
    subprocess.run(["gcc", "-std=gnu17", "-O1", "-o", out, SOURCE, "-I%s/include" % prefix,
                    *sorted(pathlib.Path(prefix).rglob("libssl.a")),
                    *sorted(pathlib.Path(prefix).rglob("libcrypto.a")), "-lpthread"],
                   check=True, timeout=300)
    return out


class Keys:
    """A pair for a public name: pem as weir reads it, config_list as clients do."""

    def __init__(self, name):
        made = run("ech-keys", name)
        assert made.returncode == 0, made.stderr
        self.pem = made.stdout
        self.config_list = base64.b64decode(re.search(r'ech="([^"]+)"', made.stderr).group(1))


def visit(client, port, name, ca, how, *cert):
    """What the client says, as a dict; with a file of certificate and key: at its second visit."""
    result = subprocess.run([client, str(port), name, str(ca), str(how), *map(str, cert)],
                            capture_output=True, text=True, timeout=120, check=True)
    return dict((line + " ").split(" ", 1) for line in result.stdout.splitlines())
