"""Models: loading, attention over segments, log-probabilities of targets, precision, quantisation."""

import logging

# While PEFT imports it, bitsandbytes looks on a CPU for a kernel that only inference uses, and warns.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
