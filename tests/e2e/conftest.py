"""End-to-end tests: the real binary, real sockets. Fixtures come from harness/fixtures.py."""
from harness.fixtures import *  # noqa: F401,F403
