"""The one file that a target or a program names goes to machines that lack it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parallel_hpo.core.types import Program, Target
from parallel_hpo.pickling.payload import MOST_FILE_BYTES, from_text, install_main, to_text

MAIN = "def main(): ..."
NAMES = [Target("code/train.py", "main", ("--fast",)), Program("code/train.py", ("${program}", "${args}"))]


@pytest.fixture
def text(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name as the pool has it, created where its file was; then this is an empty folder."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text(MAIN)
    monkeypatch.chdir(tmp_path)
    packed = to_text(request.param)
    (tmp_path / "machine").mkdir()
    monkeypatch.chdir(tmp_path / "machine")
    return packed


@pytest.mark.parametrize("text", NAMES, indirect=True)
def test_a_machine_without_the_file_gets_it_into_its_own_folder(text: str, tmp_path: Path) -> None:
    for _ in range(2):  # as a second machine with the same folder does
        found = install_main(from_text(text), Path("sweeps/abc"))
    assert isinstance(found, Target | Program)
    place = tmp_path / "machine/sweeps/abc/main/train.py"
    assert found.file == str(place)
    assert place.read_text() == MAIN
    assert os.access(place, os.X_OK)
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize("text", NAMES, indirect=True)
def test_a_machine_with_a_file_of_that_name_uses_its_own(text: str) -> None:
    Path("code").mkdir()
    Path("code/train.py").write_text("def main(): return 1")
    assert install_main(from_text(text), Path("sweeps")) in NAMES
    assert not Path("sweeps").exists()


@pytest.mark.parametrize(
    "main", [Target("train", "main"), Target("no.py", "main"), Program(""), Program("big")]
)
def test_what_is_no_source_here_goes_by_its_name_alone(
    main: Target | Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big").write_bytes(bytes(MOST_FILE_BYTES + 1))
    (tmp_path / "train").touch()
    monkeypatch.chdir(tmp_path)
    assert from_text(to_text(main)) == main
