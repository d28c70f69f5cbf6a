"""Settings of every test run: JAX on the CPU, and property tests that draw the same examples each time."""

import os

from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
settings.register_profile("codesign", deadline=None, derandomize=True)
settings.load_profile("codesign")
