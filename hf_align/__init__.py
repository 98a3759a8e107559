"""hf_align: fine-tuning and alignment of Hugging Face models. Importing it loads no heavy library."""

__version__ = "0.1.0"

from hf_align.public_names import install

install()
del install
