"""Conformance: the case table through the real proxy. Fixtures come from e2e/harness."""
from harness.fixtures import *  # noqa: F401,F403
