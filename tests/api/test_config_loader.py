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


def test_the_whole_file_stays_readable(tmp_path: Path) -> None:
    content = {"mine": {"a": 1}, "hpo": SECTION}
    loader = ConfigLoader(str(written(tmp_path, content)), environment={})
    assert loader.config == content


def test_a_section_makes_an_hpo_of_its_kind(tmp_path: Path) -> None:
    hpo = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={}).hpo
    assert isinstance(hpo, HPO)
    assert isinstance(hpo, WandbSweeps)
    assert hpo.section.count == 2


def test_it_is_the_same_hpo_each_time(tmp_path: Path) -> None:
    loader = ConfigLoader(written(tmp_path, {"hpo": SECTION}), environment={})
    assert loader.hpo is loader.hpo


@pytest.mark.parametrize("content", [{}, {"mine": 1}, {"hpo": {"apply": False, "count": 0}}])
def test_without_a_section_or_apply_there_is_no_hpo(tmp_path: Path, content: Any) -> None:
    assert ConfigLoader(written(tmp_path, content), environment={}).hpo is None


def test_a_plain_sweep_file_has_no_section(tmp_path: Path) -> None:
    assert ConfigLoader(written(tmp_path, SECTION["sweep_configuration"]), environment={}).hpo is None


def test_inside_a_worker_there_is_no_hpo(tmp_path: Path) -> None:
    path = written(tmp_path, {"hpo": SECTION})
    assert ConfigLoader(path, environment={"PARALLEL_HPO_WORKER": "0"}).hpo is None


def test_in_the_child_that_tries_a_target_there_is_no_hpo(tmp_path: Path) -> None:
    path = written(tmp_path, {"hpo": SECTION})
    assert ConfigLoader(path, environment={"PARALLEL_HPO_MARK": "1_2_3"}).hpo is None


def test_a_loader_that_main_uses_travels_without_an_hpo_and_without_the_environment(tmp_path: Path) -> None:
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


def test_an_invalid_section_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
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


def test_an_hpo_is_made_of_a_dict_as_of_a_file(tmp_path: Path) -> None:
    of_file = ConfigLoader(written(tmp_path, {"hpo": SECTION})).hpo
    of_dict = HPO.from_dict(SECTION)
    assert isinstance(of_dict, WandbSweeps)
    assert of_file is not None
    assert of_dict.section == of_file.section


def test_the_dict_stays_the_callers() -> None:
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


def test_a_dict_whose_hpo_is_disabled_makes_none() -> None:
    assert HPO.from_dict({"apply": False}) is None


def test_inside_a_worker_a_dict_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
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
