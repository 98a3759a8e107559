"""A disk that is full while a run saves: an error that says what is safe and how to go on.

What this module leaves out: checking for room beforehand, which other programs on the disk would belie.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from pathlib import Path

from hf_align.errors import UserError
from hf_align.runs.checkpoints import all_checkpoints, delete, newest_complete, what_is_missing
from hf_align.runs.limits import has_too_many_files

logger = logging.getLogger(__name__)

_ERRORS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows",
}


def reason(error: BaseException) -> str:
    """Why nothing more could be written, or an empty string where ``error`` means something else.

    Python's own files raise OSError. safetensors puts the number of the error into its text, and torch.save
    says only that the file came out shorter than what was written to it.
    """
    seen: BaseException | None = error
    if has_too_many_files(error):  # the file that was opened in vain is too short as well
        return ""
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _ERRORS:
            return _ERRORS[seen.errno]
        if type(seen).__name__ == "SafetensorError":
            number = re.search(r"os error (\d+)", str(seen))
            if number and int(number[1]) in _ERRORS:
                return _ERRORS[int(number[1])]
        text = str(seen)
        if isinstance(seen, RuntimeError) and (
            "PytorchStreamWriter failed writing" in text
            or ("inline_container" in text and "unexpected pos" in text)
        ):
            return "the file could not be written to its end"
        seen = seen.__cause__ or seen.__context__
    return ""


def explain(error: BaseException, output_dir: str, *, command: str) -> UserError | None:
    """The message for a save that failed for want of room, or None where ``error`` is something else.

    Removes the checkpoint whose save has just failed, which is of no use and takes up room: the
    incomplete one, since those of earlier parts of the run were set aside when it was resumed. ``command``:
    how to resume.
    """
    why = reason(error)
    if not why:
        return None
    folder = Path(output_dir)
    what = _what_was_written(error, folder)
    free = shutil.disk_usage(folder).free
    _remove_half_written(folder)
    last = newest_complete(folder)
    safe = (
        f"The last complete checkpoint is {last}; it is untouched. Make room and resume with: {command}"
        if last
        else "There is no complete checkpoint yet. Make room and start the run again."
    )
    return UserError(
        f"writing {what} failed: {why} ({free / 2**20:,.1f} MiB are free in {output_dir}). {safe}"
    )


def _what_was_written(error: BaseException, folder: Path) -> str:
    """Few of these errors name their file; what was written last shows where it happened."""
    if isinstance(error, OSError) and error.filename:
        return str(error.filename)
    files = [path for path in folder.rglob("*") if path.is_file()]
    # File times are coarse; of files written in the same tick the large one met the end of the disk.
    newest = max(files, key=lambda path: (path.stat().st_mtime_ns, path.stat().st_size), default=folder / ".")
    if type(error).__name__ == "SafetensorError":  # it removes the file that it could not finish
        return f"the weights in {newest.parent}"
    return str(newest) if isinstance(error, RuntimeError) else f"a file in {newest.parent}"


def _remove_half_written(folder: Path) -> None:
    for checkpoint in all_checkpoints(folder):
        if what_is_missing(checkpoint):
            delete(checkpoint)
            logger.warning("removed %s, whose save has failed", checkpoint)
