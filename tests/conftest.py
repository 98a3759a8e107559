"""Settings for every test process: one thread each, no network, the same numbers on every run.

They are set before torch or transformers is imported, since both read them at import.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["MPLBACKEND"] = "Agg"
# The tests run with untested releases as well ("make test-newest"), and commands say nothing of it.
os.environ["HF_ALIGN_RELEASES_SAID"] = "1"
