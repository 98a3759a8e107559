"""Settings for every test process: one thread each, no network, the same numbers on every run.

They are set before torch or transformers is imported, since both read them at import.
"""

from __future__ import annotations

import os

import pytest

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
# The tests run with untested releases as well ("make test-newest"), and commands say nothing of it.
os.environ["HF_ALIGN_RELEASES_SAID"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """A warning that a user would see fails a test, as long as the libraries are releases that were tested:
    others may warn of what is to come, which is no fault yet."""
    from hf_align.runs.releases import libraries

    if not any(library.place for library in libraries()):
        # In front: the exceptions in setup.cfg come later and count first.
        config.getini("filterwarnings")[:0] = [
            "error::FutureWarning",
            "error::UserWarning",
            "error::RuntimeWarning",
        ]
