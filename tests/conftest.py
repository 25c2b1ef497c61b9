"""What all tests share."""

import os
import signal

os.environ.setdefault("MPLBACKEND", "Agg")  # no window, whatever the machine

from hypothesis import HealthCheck, settings

# The same examples on every run: a failure that appears only sometimes helps nobody.
settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")

# A shell that runs the tests in the background makes them ignore interrupts, which some test.
signal.signal(signal.SIGINT, signal.default_int_handler)
