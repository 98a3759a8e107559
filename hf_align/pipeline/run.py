"""A pipeline run: its steps one after the other, each in a process of its own; what is up to date is reused.

What a step depends on is in ``state``, how its process is watched in ``process``. Nothing
here imports torch, so that a step has the memory to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from hf_align.errors import UserError
from hf_align.pipeline.process import run_process
from hf_align.pipeline.recipe import Pipeline
from hf_align.pipeline.stages import OWN_FOLDER
from hf_align.pipeline.state import (
    PipelineRecord,
    Planned,
    digest_of,
    plan_step,
    read_state,
    run_started,
    state_file,
    write_state,
)
from hf_align.runs.columns import aligned
from hf_align.runs.processes import program
from hf_align.runs.record import RUN_FILE, collect_versions, read_run, redact, write_atomic, write_json
from hf_align.runs.releases import record_entries
from hf_align.runs.schema import Record

_RESUME = "resume_from_checkpoint"


def plan(pipeline: Pipeline) -> list[Planned]:
    """What is to be done with every step, in order; reads files and changes nothing.

    Raises UserError where a file that a recipe names cannot be read, and where the output folder is of
    something else.
    """
    options = pipeline.options
    _check_folder(options.output_dir)
    digest_of.cache_clear()  # files may have changed since an earlier plan of this process
    planned: dict[str, Planned] = {}
    for step in pipeline.steps:
        planned[step.name] = plan_step(
            step,
            options.output_dir,
            planned,
            keep_after_upgrade=options.keep_after_upgrade,
            rerun=not {step.name, step.stage}.isdisjoint(options.rerun),
        )
    return list(planned.values())


def plan_lines(planned: list[Planned]) -> list[str]:
    """What would run and why, a line a step."""
    words = {"reuse": "up to date", "resume": "goes on", "run": "runs"}
    table = []
    for each in planned:
        what = words[each.action] + ("" if each.action == "reuse" else f": {each.reason}")
        table.append([each.step.name, each.step.command, what])
    waiting = sum(each.action != "reuse" for each in planned)
    return [f"{len(planned)} steps, {waiting} to run:", *(f"  {line}" for line in aligned(table))]


def run_pipeline(
    pipeline: Pipeline, planned: list[Planned], *, finish: Callable[[PipelineRecord], PipelineRecord]
) -> PipelineRecord:
    """Run what is to be run; returns the content of the pipeline's run.json.

    ``finish``: called with that content once all steps are done; what it returns is added to it.
    Raises UserError for a step that failed, KeyboardInterrupt or SystemExit where a signal ended one: the
    same command then goes on from there.
    """
    output_dir = pipeline.options.output_dir
    if os.environ.get("NPROC", "1") not in ("", "1"):
        raise UserError(
            f"NPROC={os.environ['NPROC']}: a pipeline runs each stage in one process; leave NPROC out."
        )
    Path(output_dir, OWN_FOLDER, "state").mkdir(parents=True, exist_ok=True)
    with _alone(Path(output_dir, OWN_FOLDER, "lock"), output_dir):
        record = _record(pipeline, planned)
        try:
            for number, each in enumerate(planned, start=1):
                _run(each, pipeline, f"[{number}/{len(planned)}] {each.step.name}")
                _update(record, planned, output_dir, status="running")
            record.update(finish(record))
            _update(record, planned, output_dir, status="completed")
        except BaseException:
            _update(record, planned, output_dir, status="interrupted")
            raise
    return record


def _run(planned: Planned, pipeline: Pipeline, title: str) -> None:
    step, output_dir = planned.step, pipeline.options.output_dir
    if planned.action == "reuse":
        print(f"{title}: up to date", flush=True)
        return
    recipe = _write_recipe(planned, pipeline)
    log = Path(output_dir, OWN_FOLDER, "logs", f"{step.name}.log")
    state = state_file(output_dir, step)
    earlier = 0.0
    if planned.action == "resume":
        earlier = float(read_state(state).get("seconds") or 0)
    else:
        log.unlink(missing_ok=True)
        if step.command == "merge":
            _set_aside(Path(step.output_dir))
    built_on = _built_on(planned, pipeline)
    write_state(state, planned, status="running", seconds=earlier, built_on=built_on)
    print(f"\n{title}: {planned.reason}; hf-align {step.command} --config {recipe}", flush=True)
    started = time.perf_counter()
    arguments = [sys.executable, "-m", "hf_align", step.command, "--config", str(recipe)]
    status, signum = run_process(arguments, log)
    seconds = round(earlier + time.perf_counter() - started, 1)
    facts = {"seconds": seconds, "built_on": built_on}
    if status == 0:
        write_state(state, planned, status="completed", run_started=run_started(step), **facts)
        print(f"{title}: done in {seconds - earlier:.0f} s", flush=True)
        return
    write_state(state, planned, status="interrupted", exit_status=status, **facts)
    again = shlex.join(_command(pipeline))
    if signum is not None or status in (130, 143, -2, -15):
        print(f"\n{step.name} was stopped. The pipeline goes on from there with:\n  {again}", file=sys.stderr)
        raise KeyboardInterrupt
    raise UserError(
        f"{step.place} ({step.name}): this stage failed (exit status {status}). What it said is above and in "
        f"{log}. Fix the cause; then the same command goes on from here, and reuses what is done:\n  {again}"
    )


def _built_on(planned: Planned, pipeline: Pipeline) -> dict[str, str]:
    """When the runs began that this step uses; they are all done by now."""
    by_name = {step.name: step for step in pipeline.steps}
    return {name: run_started(by_name[name]) for name in planned.step.uses}


def _write_recipe(planned: Planned, pipeline: Pipeline) -> Path:
    """The recipe of a step as a file of its own, which its command can run by itself as well."""
    step = planned.step
    changes: dict[str, Any] = {"output_dir": step.output_dir}
    if step.command == "best-of-n":
        # It goes on by itself; what it finds in the folder must not be taken up where the recipe has changed.
        changes |= {} if planned.action == "resume" else {"resume": False}
    elif planned.action == "resume" and _RESUME in step.config.to_flat():
        changes[_RESUME] = "auto"
    text = yaml.safe_dump(step.recipe(**changes), sort_keys=False, allow_unicode=True, width=100)
    path = Path(pipeline.options.output_dir, OWN_FOLDER, "recipes", f"{step.name}.yaml")
    source = f"# Stage {step.stage} of {pipeline.path}, written by hf-align pipeline.\n"
    write_atomic(path, (source + text).encode("utf-8", "backslashreplace"))
    return path


def _record(pipeline: Pipeline, planned: list[Planned]) -> PipelineRecord:
    output_dir = pipeline.options.output_dir
    earlier = PipelineRecord.of(read_state(Path(output_dir, RUN_FILE)))
    config = pipeline.config
    record = PipelineRecord(
        command="pipeline",
        status="running",
        started=earlier.started or datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=redact(config.to_flat()),
        recipe_path=pipeline.path,
        overrides=redact(config.overrides),
        versions=collect_versions(),
        pipeline=earlier.pipeline,
    )
    record.update(record_entries())
    _update(record, planned, output_dir, status="running")
    return record


def _update(record: PipelineRecord, planned: list[Planned], output_dir: str, *, status: str) -> None:
    """Write the pipeline's run.json: the steps with their times, and how far it has come."""
    steps = []
    for each in planned:
        state = read_state(state_file(output_dir, each.step))
        known = state.get("fingerprint") == each.fingerprint
        steps.append(
            {
                "name": each.step.name,
                "stage": each.step.stage,
                "command": each.step.command,
                "seed": each.step.seed,
                "output_dir": each.step.output_dir,
                "uses": list(each.step.uses),
                "reused": each.action == "reuse",
                "status": state.get("status") if known else "waiting",
                "seconds": state.get("seconds") if known else None,
            }
        )
    record.steps = steps
    record.wall_time_seconds = round(sum(float(step["seconds"] or 0) for step in steps), 1)
    runs = (Record.of(read_state(Path(step["output_dir"], RUN_FILE))) for step in steps)
    record.machine = next((run.machine for run in runs if run.machine), {})
    record.status = status
    write_json(Path(output_dir, RUN_FILE), record)


def _check_folder(output_dir: str) -> None:
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: '{output_dir}' is a file; expected a folder.")
    if not folder.is_dir() or not any(folder.iterdir()) or (folder / OWN_FOLDER / "state").is_dir():
        return
    found = "something else"
    if (folder / RUN_FILE).is_file():
        found = f"a run of hf-align {read_run(folder).command}"
    raise UserError(f"output_dir: '{output_dir}' holds {found} and no pipeline; choose another folder.")


def _set_aside(folder: Path) -> None:
    """What writes into a new folder only finds one; the earlier one stays beside it."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"))


@contextlib.contextmanager
def _alone(path: Path, output_dir: str) -> Iterator[None]:
    """Hold the lock of a pipeline's folder; the system releases it when the process ends, however it does.

    Raises UserError where another process holds it. Without locks on this platform nothing is checked.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"output_dir: another process runs a pipeline in '{output_dir}'; wait for it, or choose "
                "another folder."
            ) from None
        except OSError:
            pass
        yield


def _command(pipeline: Pipeline) -> list[str]:
    """What was called, without what asks for something to be done again."""
    arguments = [*program(), "pipeline", "--config", pipeline.path]
    for key, value in pipeline.config.overrides.items():
        if key != "rerun":
            arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return arguments
