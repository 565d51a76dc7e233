"""Packages of npm for tests, in a directory of their own under build/, at versions named here.

npm's own configuration says where they come from; no lock file and no address is kept. Where npm
reaches nothing the test is skipped, and says so."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
WANTED = {"@grpc/grpc-js": "1.14.7"}


def modules():
    """The value for NODE_PATH."""
    place = pathlib.Path(os.environ.get("WEIR_NPM_DIR") or ROOT / "build/npm")
    missing = ["%s@%s" % row for row in WANTED.items()
               if not (place / "node_modules" / row[0] / "package.json").exists()]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        words = ["npm", "install", "--prefix", str(place), "--no-audit", "--no-fund",
                 "--no-package-lock", "--ignore-scripts", "--no-save", *missing]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=240,
                                  check=False)
            problem = done.stderr if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        if problem:
            text = "NOT TESTED with %s: npm could not install it" % ", ".join(missing)
            print("%s:\n%s" % (text, problem[-500:]), file=sys.stderr)
            pytest.skip(text)
    return str(place / "node_modules")
