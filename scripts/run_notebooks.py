"""Execute notebooks from top to bottom, and keep what they show.

    python scripts/run_notebooks.py [--full] [--output FOLDER] [NAME ...]

Without names all of notebooks/ are run. They are run small, with tiny random models and a few steps, unless
--full asks for the real ones. Executed copies go to FOLDER (default runs/notebooks/executed); the notebooks
themselves stay as they are, without outputs. Stops at the first cell that fails. Needs nbclient and ipykernel
(the extra ``dev``).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SWITCH = "HF_ALIGN_NOTEBOOK_SMALL"


def execute(path: Path, *, small: bool, timeout: int, environment: Mapping[str, str] | None = None) -> Any:
    """The notebook in ``path`` with its outputs.

    ``timeout``: seconds for one cell. ``environment``: variables that the kernel gets beside those of this
    process. Raises nbclient's CellExecutionError where a cell fails.
    """
    import nbformat
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

    content = nbformat.read(path, as_version=4)
    # The environment of this process, not of whatever kernel is registered under the name python3.
    manager = KernelManager()
    # It says otherwise that it listens on a socket of this machine.
    manager.kernel_spec.argv[:] = [
        sys.executable,
        *manager.kernel_spec.argv[1:],
        "--IPKernelApp.log_level=ERROR",
    ]
    client = NotebookClient(
        content,
        km=manager,
        timeout=timeout,
        startup_timeout=300,
        resources={"metadata": {"path": str(path.parent)}},
    )
    variables = {
        **os.environ,
        SWITCH: "1" if small else "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # Nobody watches: no bars, and not what tqdm says where there are no widgets for them.
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",
        **(environment or {}),
    }
    # nbclient ends only the kernels that it has made itself, unless it is told.
    client.execute(env=variables, cleanup_kc=True)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = settled(cell.outputs)
    return content


def settled(outputs: list[Any]) -> list[Any]:
    """``outputs`` with printed text as a terminal would show it in the end, with bars overwritten."""
    kept: list[Any] = []
    for output in outputs:
        before = kept[-1] if kept else None
        if output.output_type != "stream":
            kept.append(output)
        elif before is not None and before.output_type == "stream" and before.name == output.name:
            before.text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in output.text.split("\n")]
            output.text = "\n".join(lines)
    return [each for each in kept if each.output_type != "stream" or each.text.strip()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 01_quickstart_sft; default: all")
    parser.add_argument("--full", action="store_true", help="real models and steps instead of small ones")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "notebooks" / "executed")
    options = parser.parse_args(argv)
    import nbformat

    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no notebook {unknown[0]}; there are {', '.join(known)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or known:
        started = time.monotonic()
        executed = execute(known[name], small=not options.full, timeout=7200 if options.full else 600)
        target = options.output / f"{name}.ipynb"
        nbformat.write(executed, target)
        print(f"{name}: {time.monotonic() - started:.0f} s, {target}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
