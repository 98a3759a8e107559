"""hf_align: fine-tuning and alignment of Hugging Face models. Importing it loads no heavy library."""

__version__ = "0.1.0"

import logging

from hf_align.public_names import install

install()
# While PEFT imports it, bitsandbytes looks on a CPU for a kernel that only inference uses, and warns.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
del install, logging
