"""Any number of processes, together or one after the other, gives the same rows, report and errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.chat_tokenizers import byte_level_tokenizer
from helpers.large_sources import any_row, content_of, prepare, write_rows

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import prepare_datasets
from hf_align.data.store import cache, workers
from hf_align.data.store import datasets as stored
from hf_align.errors import UserError

pytestmark = pytest.mark.usefixtures("everything_is_large")


def test_any_number_of_processes_with_and_without_the_cache_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"eval_split_size": 0.1, "mixture_exponent": 0.5}
    options["eval_datasets"] = [DatasetConfig(path=write_rows(tmp_path / "e.jsonl", range(20)))]
    paths = write_rows(tmp_path / "a.jsonl", range(300)), write_rows(tmp_path / "b.jsonl", range(500, 560))
    monkeypatch.setattr(stored, "SMALL_BYTES", 1 << 20)
    expected = content_of(prepare(*paths, **options))
    assert expected[2]["sources"][0]["malformed"] > 40
    assert expected[2]["sources"][0]["dropped"] > 5
    assert expected[2]["sources"][0]["duplicates"] > 50
    assert expected[2]["leaked"] > 0
    monkeypatch.setattr(stored, "SMALL_BYTES", 0)
    for processes in (1, 2, 3):
        prepared = prepare(*paths, dataset_cache=False, dataset_num_proc=processes, **options)
        assert content_of(prepared) == expected
    in_a_cache = {"dataset_cache_dir": str(tmp_path / "cache"), "dataset_num_proc": 2, **options}
    for _ in range(2):
        assert content_of(prepare(*paths, **in_a_cache)) == expected


def test_work_reaches_the_worker_processes_and_they_end(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(400))
    with workers_seen() as seen:
        prepare(path, dataset_num_proc=2)
    assert len(seen) == 2
    assert not any(psutil.pid_exists(pid) for pid in seen)


class workers_seen:
    """Notes the processes of every pool while it is open."""

    def __enter__(self) -> set[int]:
        self.seen: set[int] = set()
        self.real = workers.ProcessPoolExecutor
        seen = self.seen

        class Noting(self.real):  # type: ignore[misc, name-defined]
            def submit(self, *arguments: Any, **options: Any) -> Any:
                future = super().submit(*arguments, **options)
                seen.update(self._processes)
                return future

        workers.ProcessPoolExecutor = Noting  # type: ignore[misc]
        return self.seen

    def __exit__(self, *_: Any) -> None:
        workers.ProcessPoolExecutor = self.real  # type: ignore[misc]


def test_errors_are_the_same_and_come_after_the_rows_before_them(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = ",\n".join(json.dumps(any_row(number)) for number in range(200))
    path.write_text(f"[{rows}, broken")
    messages = []
    for processes in (1, 3):
        with pytest.raises(UserError, match="broken JSON") as caught:
            prepare(str(path), dataset_num_proc=processes)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert list((tmp_path / "home").rglob("manifest.json")) == []
    assert list((tmp_path / "home").rglob("*.part-*")) == []


def test_an_error_of_the_tokenizer_in_a_worker_is_the_users(tmp_path: Path) -> None:
    # The first kind of rows needs no template, so that only the workers find out that there is none.
    bare = byte_level_tokenizer()
    path = tmp_path / "a.jsonl"
    rows: list[Any] = [{"prompt": "1", "completion": "2"}] * 60
    rows += [
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="no chat template"):
        prepare_datasets(DataConfig(datasets=[str(path)], dataset_num_proc=2), bare, seed=0)


def test_small_sources_touch_no_disk_and_start_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SMALL_BYTES", 1 << 20)
    path = write_rows(tmp_path / "a.jsonl", range(100))
    with workers_seen() as seen:
        prepare(path, dataset_num_proc=2)
    assert (len(seen), (tmp_path / "home").exists()) == (0, False)


_ALONE = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer
from hf_align.config import DataConfig
from hf_align.data import pipeline, prepare_datasets
from hf_align.data.conversion import detection
from hf_align.data.store import datasets as stored
from hf_align.data.store import workers
stored.SMALL_BYTES, workers.ROWS_BEFORE_WORKERS, pipeline._ROWS_TOKENIZED_TOGETHER = 0, 40, 16
real = stored.open_source
def noting(*arguments, **options):
    with open({log!r}, "a") as file:
        file.write("prepared\\n")
    return real(*arguments, **options)
stored.open_source = noting
if __name__ == "__main__":
    tokenizer = byte_level_tokenizer(FAMILIES["chatml"][0])
    data = DataConfig(datasets=[{data!r}], max_length=400, max_malformed_share=0.5, dataset_num_proc=2)
    print(prepare_datasets(data, tokenizer, seed=0).report.fingerprint)
"""


def _script(tmp_path: Path, data: str) -> Path:
    script = tmp_path / "alone.py"
    tests = str(Path(__file__).parents[2])
    script.write_text(_ALONE.format(tests=tests, log=str(tmp_path / "log"), data=data))
    return script


def test_processes_that_want_the_same_rows_prepare_them_once(tmp_path: Path) -> None:
    script = _script(tmp_path, write_rows(tmp_path / "a.jsonl", range(300)))
    together = [
        subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    prints = {process.communicate(timeout=120)[0] for process in together}
    assert [process.returncode for process in together] == [0, 0, 0]
    assert len(prints) == 1
    assert (tmp_path / "log").read_text() == "prepared\n"


def test_a_killed_preparation_leaves_no_worker_and_is_begun_again(tmp_path: Path) -> None:
    pipe = tmp_path / "a.jsonl"
    write_rows(pipe, range(300))
    script = _script(tmp_path, str(pipe))
    # The reader stops in the middle, so that the kill meets running workers.
    stopping = script.read_text().replace(
        "if __name__",
        "read = detection.read_rows\n"
        "def slow(*a, **o):\n"
        "    for number, row in enumerate(read(*a, **o)):\n"
        "        if number == 280: time.sleep(600)\n"
        "        yield row\n"
        "detection.read_rows = slow\n"
        "if __name__",
    )
    (tmp_path / "stopping.py").write_text(stopping)
    process = subprocess.Popen([sys.executable, str(tmp_path / "stopping.py")])
    children: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while len(children) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            found = psutil.Process(process.pid).children(recursive=True)
            children = [child for child in found if "spawn_main" in " ".join(child.cmdline())]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    folder = cache.default_folder()
    assert [entry for entry in folder.iterdir() if ".part-" in entry.name] != []
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0
    assert [entry for entry in folder.iterdir() if ".part-" in entry.name] == []
