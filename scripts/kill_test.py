"""Kill training at random moments, resume it, and hold the result equal to that of a run left alone.

Full fine-tuning, LoRA and QLoRA of a tiny model take turns. Each run is killed (SIGKILL) a few times, at a
random moment of the run, or inside a save or the removal of an old checkpoint, and started again with
``resume_from_checkpoint: auto`` until it ends. Then its weights must have the same bits as those of the
uninterrupted run, its metrics and samples must be the same, no line of metrics may have been lost, and every
part must have gone on from the newest checkpoint that was complete at the kill.

Children are forked from a process that has imported everything, which makes a kill cost about a second;
``--fresh`` starts a new interpreter for each instead. Runs on Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": "lora", "lora_r": 4, "lora_dropout": 0.1},
    "qlora": {"adapter": "lora", "lora_r": 4, "load_in_4bit": True, "optim": "adamw_8bit"},
}
# Where a kill is aimed: any moment, after a checkpoint folder has appeared, while an old one is removed.
AIMS = ("anywhere", "saving", "saving", "removing")
UNSTABLE = ("time_seconds", "tokens_per_second", "peak_memory_bytes")


@dataclass
class Counts:
    """What the kills have met."""

    kills: int = 0
    runs: int = 0
    seen: Counter[str] = field(default_factory=Counter)


class Difference(Exception):
    """A resumed run did not end as the uninterrupted one."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="kills in all (default: 100)")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: a new one)")
    parser.add_argument("--fresh", action="store_true", help="a new interpreter for each start")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    arguments = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="kill-test-"))
    print(f"kill test: {arguments.count} kills, --seed {seed}, in {folder}", flush=True)
    started = time.monotonic()
    counts = Counts()
    try:
        test(folder, arguments.count, random.Random(seed), counts, fresh=arguments.fresh)
    except Difference as problem:
        print(f"kill-test: FAILED after {counts.kills} kills (--seed {seed}): {problem}\nkept: {folder}")
        return 1
    if not arguments.keep:
        shutil.rmtree(folder)
    seen = "".join(f" {name}={counts.seen[name]}" for name in sorted(counts.seen))
    print(
        f"kill-test: kills={counts.kills} runs={counts.runs} identical={counts.runs}{seen} seed={seed} "
        f"seconds={time.monotonic() - started:.0f}"
    )
    return 0


def test(folder: Path, count: int, rng: random.Random, counts: Counts, *, fresh: bool) -> None:
    """Kill ``count`` times. Raises Difference where a run does not end as it should."""
    common = prepare(folder)
    whole: dict[str, tuple[Path, float]] = {}
    while counts.kills < count:
        kind = list(KINDS)[counts.runs % len(KINDS)]
        if kind not in whole:
            path = folder / f"{kind}-whole"
            recipe = write_recipe(path, {**common, **KINDS[kind]})
            begun = time.monotonic()
            finish(recipe, path.with_suffix(".log"), fresh=fresh)
            whole[kind] = (path, time.monotonic() - begun)
        reference, seconds = whole[kind]
        path = folder / f"{kind}-{counts.runs}"
        recipe = write_recipe(path, {**common, **KINDS[kind], "resume_from_checkpoint": "auto"})
        kills = min(rng.randint(2, 5), count - counts.kills)
        kills = kill_and_resume(recipe, path, kills, seconds, rng, counts, fresh=fresh)
        compare(path, reference)
        counts.runs += 1
        print(f"  {counts.kills:4d}/{count} kills; {kind}: the same bits after {kills}", flush=True)
        for old in folder.glob(f"{path.name}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def prepare(folder: Path) -> dict[str, Any]:
    """A tiny model and data in ``folder``; returns what the recipes of all kinds share."""
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    for path in (ROOT / "tests", ROOT):
        sys.path.insert(0, str(path))
    from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders

    # Imported here, before the fork, and by no means used: a child must find no thread of ours missing.
    import hf_align.commands.sft
    import hf_align.data.prepare
    import hf_align.reporting.html
    import hf_align.training.trainer  # noqa: F401

    return {
        "model_name_or_path": save_tiny_checkpoint(folder / "model", hidden_size=64),
        "datasets": write_orders(folder / "train.jsonl", 22),
        "eval_datasets": write_orders(folder / "heldout.jsonl", 4, start=100),
        "use_cpu": True,
        "precision": "fp32",
        "max_length": 256,
        "per_device_train_batch_size": 4,
        # 6 steps an epoch, the last one ragged; the run ends inside its fourth epoch.
        "max_steps": 21,
        "learning_rate": 0.003,
        "logging_steps": 2,
        "eval_strategy": "epoch",
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": 2,
        "num_samples": 1,
        "sample_max_new_tokens": 2,
    }


def write_recipe(output_dir: Path, options: dict[str, Any]) -> Path:
    recipe = output_dir.with_suffix(".yaml")
    recipe.write_text(json.dumps({**options, "output_dir": str(output_dir)}), encoding="utf-8")
    return recipe


def start(recipe: Path, log: Path, *, fresh: bool) -> int:
    """Start the run of ``recipe`` and return the id of its process."""
    arguments = ["sft", "--config", str(recipe)]
    if fresh:
        with log.open("ab") as output:
            command = [sys.executable, "-m", "hf_align", *arguments]
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output).pid
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from tqdm import tqdm

        from hf_align.__main__ import main as run

        # tqdm's own lock is shared between forked processes, and one that is killed never gives it back.
        tqdm.set_lock(threading.RLock())

        status = run(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(recipe: Path, log: Path, *, fresh: bool) -> None:
    _, status = os.waitpid(start(recipe, log, fresh=fresh), 0)
    if status != 0:
        raise Difference(f"{recipe.stem}: exit status {os.waitstatus_to_exitcode(status)}; {tail(log)}")


def tail(log: Path) -> str:
    return "…" + log.read_text(encoding="utf-8", errors="replace")[-1500:]


def kill_and_resume(
    recipe: Path, path: Path, kills: int, seconds: float, rng: random.Random, counts: Counts, *, fresh: bool
) -> int:
    """Kill a run up to ``kills`` times and let it end; returns how often it was killed."""
    log = path.with_suffix(".log")
    killed = 0
    ended = False
    while killed < kills and not ended:
        before = Snapshot(path)
        child = start(recipe, log, fresh=fresh)
        aim = rng.choice(AIMS)
        if wait_for_moment(child, path, aim, seconds, rng):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            counts.kills += 1
            note_what_was_met(path, counts)
        else:
            # It ended before the moment came; the next start has to end it once more, unchanged.
            ended = True
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != 0:
                raise Difference(f"{path.name}: exit status {status}; {tail(log)}")
            counts.seen["ended_first"] += 1
        before.check(path)
    before = Snapshot(path)
    finish(recipe, log, fresh=fresh)
    before.check(path)
    return killed


def wait_for_moment(child: int, path: Path, aim: str, seconds: float, rng: random.Random) -> bool:
    """Return at the moment to kill; False where the child has ended by then."""
    deadline = time.monotonic() + rng.uniform(0, seconds)
    after = 0.0 if aim == "removing" else rng.uniform(0, 0.06)
    pattern = {"saving": "checkpoint-*", "removing": "deleted-checkpoint-*"}.get(aim)
    known = set(path.glob("checkpoint-*"))
    skip = rng.randint(0, 2)
    while True:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        if pattern is None and time.monotonic() >= deadline:
            return True
        appeared = set(path.glob(pattern)) - known if pattern else set()
        if appeared and skip:
            known |= appeared
            skip -= 1
        elif appeared:
            time.sleep(after)
            return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        time.sleep(0.0005)


class Snapshot:
    """What a run folder held before a start, for what must still be there after a kill."""

    def __init__(self, path: Path) -> None:
        from hf_align.runs.checkpoints import newest_complete, step_of

        newest = newest_complete(path) if path.is_dir() else None
        self.step = step_of(newest) if newest else 0
        metrics = path / "metrics.jsonl"
        self.lines = metrics.read_bytes() if newest and metrics.exists() else b""

    def check(self, path: Path) -> None:
        """Raise Difference where a line of metrics is lost, or the run did not go on from the newest."""
        from hf_align.runs.checkpoints import newest_complete, step_of

        metrics = path / "metrics.jsonl"
        now = metrics.read_bytes() if metrics.exists() else b""
        if not now.startswith(self.lines):
            raise Difference(f"{path.name}: lines of metrics.jsonl are lost")
        newest = newest_complete(path) if path.is_dir() else None
        if (step_of(newest) if newest else 0) < self.step:
            raise Difference(f"{path.name}: checkpoint-{self.step} was complete and is lost")
        for line in now[len(self.lines) :].split(b"\n"):
            try:
                step = json.loads(line)["step"]
            except (ValueError, TypeError, KeyError):
                continue  # the torn end of the part before
            if step < self.step:
                raise Difference(f"{path.name}: went on from before step {self.step}, at step {step}")


def note_what_was_met(path: Path, counts: Counts) -> None:
    from hf_align.runs.checkpoints import all_checkpoints, what_is_missing

    if not path.is_dir():
        counts.seen["before_start"] += 1
        return
    if any(what_is_missing(folder) for folder in all_checkpoints(path)):
        counts.seen["inside_save"] += 1
    if any(path.glob("deleted-checkpoint-*")):
        counts.seen["inside_removal"] += 1


def compare(path: Path, reference: Path) -> None:
    """Raise Difference where a run's weights, metrics or samples are not those of ``reference``."""
    from hf_align.runs.metrics import evaluation_rows, read_metrics, training_rows

    for expected in sorted(reference.glob("*.safetensors")):
        if (path / expected.name).read_bytes() != expected.read_bytes():
            raise Difference(f"{path.name}: {expected.name} has other bits")
    ours, theirs = (read_metrics(folder / "metrics.jsonl").rows for folder in (path, reference))
    for merged in (training_rows, evaluation_rows):
        if stable(merged(ours)) != stable(merged(theirs)):
            raise Difference(f"{path.name}: other metrics: {stable(merged(ours))} {stable(merged(theirs))}")
    records = [json.loads((folder / "run.json").read_bytes()) for folder in (path, reference)]
    for key in ("status", "final_metrics", "generations"):
        if records[0].get(key) != records[1].get(key):
            raise Difference(f"{path.name}: {key}: {records[0].get(key)} {records[1].get(key)}")


def stable(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in UNSTABLE} for row in rows]


if __name__ == "__main__":
    sys.exit(main())
