from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo import HPO, ConfigError, ConfigLoader
from parallel_hpo.api import kind_names
from parallel_hpo.api.wandb_sweeps import WandbSweeps

SECTION: dict[str, Any] = {
    "count": 2,
    "sweep_configuration": {"method": "random", "parameters": {"lr": {"value": 0.1}}},
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return path


def test_the_whole_file_is_available(tmp_path: Path) -> None:
    content = {"mine": {"a": 1}, "hpo": SECTION}
    loader = ConfigLoader(str(written(tmp_path, content)), environment={})
    assert loader.config == content


def test_a_section_gives_an_hpo_of_its_kind(tmp_path: Path) -> None:
    hpo = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={}).hpo
    assert isinstance(hpo, HPO)
    assert isinstance(hpo, WandbSweeps)
    assert hpo.section.count == 2


def test_it_is_the_same_hpo_each_time(tmp_path: Path) -> None:
    loader = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={})
    assert loader.hpo is loader.hpo


@pytest.mark.parametrize("content", [{}, {"mine": 1}, {"hpo": {"apply": False, "count": 0}}])
def test_there_is_no_hpo_without_a_section_or_apply(tmp_path: Path, content: Any) -> None:
    assert ConfigLoader(written(tmp_path, content), environment={}).hpo is None


def test_a_plain_sweep_file_has_no_section(tmp_path: Path) -> None:
    assert ConfigLoader(written(tmp_path, SECTION["sweep_configuration"]), environment={}).hpo is None


def test_there_is_no_hpo_inside_a_worker(tmp_path: Path) -> None:
    path = written(tmp_path, {"hpo": SECTION})
    assert ConfigLoader(path, environment={"PARALLEL_HPO_WORKER": "0"}).hpo is None


def test_there_is_no_hpo_in_a_child_that_tries_a_target(tmp_path: Path) -> None:
    path = written(tmp_path, {"hpo": SECTION})
    assert ConfigLoader(path, environment={"PARALLEL_HPO_MARK": "1_2_3"}).hpo is None


def test_a_pickled_loader_has_neither_hpo_nor_environment(tmp_path: Path) -> None:
    loader = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={"WANDB_API_KEY": "secret"})
    assert loader.hpo is not None
    travelled = pickle.dumps((loader, loader.hpo))
    assert b"secret" not in travelled
    copy, hpo = pickle.loads(travelled)
    assert copy.config == loader.config
    assert hpo is None


def test_the_environment_overrides_the_section(tmp_path: Path) -> None:
    hpo = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={"PARALLEL_HPO_COUNT": "7"}).hpo
    assert hpo is not None
    assert hpo.section.count == 7


def test_an_invalid_section_is_refused_on_access(tmp_path: Path) -> None:
    path = written(tmp_path, {"mine": 1, "hpo": {**SECTION, "count": 0}})
    loader = ConfigLoader(path, environment={})
    assert loader.config["mine"] == 1
    with pytest.raises(ConfigError) as caught:
        _ = loader.hpo
    assert str(caught.value).startswith(f"{path}: hpo.count is 0; allowed: ")


def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: can't be read"):
        ConfigLoader(tmp_path / "none.json")


def test_the_kinds_are_the_modules_of_their_folder() -> None:
    assert kind_names() == ("wandb_sweeps",)


def test_a_dict_gives_the_same_hpo_as_a_file(tmp_path: Path) -> None:
    of_file = ConfigLoader(written(tmp_path, {"hpo": SECTION})).hpo
    of_dict = HPO.from_dict(SECTION)
    assert isinstance(of_dict, WandbSweeps)
    assert of_file is not None
    assert of_dict.section == of_file.section


def test_the_callers_dict_is_not_changed() -> None:
    section = {"count": 1, **SECTION, "sweep_configuration": dict(SECTION["sweep_configuration"])}
    hpo = HPO.from_dict(section)
    section["sweep_configuration"]["method"] = "no such"
    assert hpo is not None
    assert hpo.section.sweep_configuration == SECTION["sweep_configuration"]


def test_the_environment_overrides_a_dict_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLEL_HPO_COUNT", "7")
    hpo = HPO.from_dict(SECTION)
    assert hpo is not None
    assert hpo.section.count == 7


def test_a_disabled_dict_gives_no_hpo() -> None:
    assert HPO.from_dict({"apply": False}) is None


def test_a_dict_gives_no_hpo_inside_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLEL_HPO_WORKER", "0")
    assert HPO.from_dict(SECTION) is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (SECTION | {"count": 0}, "HPO.from_dict: hpo.count is 0; allowed: "),
        (SECTION | {"cuont": 1}, "HPO.from_dict: hpo.cuont: unknown key; "),
        ({"count": 1}, "HPO.from_dict: hpo.sweep_configuration is missing; "),
        ([1], "HPO.from_dict: hpo is [1]; allowed: a table"),
    ],
)
def test_an_invalid_dict_is_refused_at_once(section: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HPO.from_dict(section)
    assert str(caught.value).startswith(words)
