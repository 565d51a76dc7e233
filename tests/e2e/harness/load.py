"""Runs tools/load.c, the verifying load client, beside a test."""
import json
import signal
import subprocess

from . import proc


class Load:
    """Load on a port until stop(). path must answer "<X-Nonce> <name>" (servers.Nginx /nonce)."""

    def __init__(self, binary, port, connections=64, seconds=0, path="/nonce", close=False):
        command = [str(binary), str(port), str(connections), str(seconds), path]
        self.process = subprocess.Popen(command + (["close"] if close else []),
                                        stdout=subprocess.PIPE, text=True,
                                        preexec_fn=proc.die_with_parent)

    def stop(self):
        """Lets the requests in flight finish; the report."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self, guard=120):
        out, _ = self.process.communicate(timeout=guard)
        return json.loads(out)


def clean(report, at_least=1):
    """Every request was answered, rightly."""
    assert report["failed"] == 0 and report["unfinished"] == 0, report
    assert report["ok"] >= at_least, report
