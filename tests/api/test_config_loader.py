from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo import HPO, ConfigError, ConfigLoader
from parallel_hpo.api.wandb_sweeps import WandbSweeps

SECTION: dict[str, Any] = {
    "count": 2,
    "sweep_configuration": {"method": "random", "parameters": {"lr": {"value": 0.1}}},
}


def loaded(folder: Path, content: Any, **environment: str) -> ConfigLoader:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return ConfigLoader(path, environment=environment)


def test_a_loader_has_the_files_content_and_one_hpo_that_the_environment_overrides(tmp_path: Path) -> None:
    content = {"mine": {"a": 1}, "hpo": SECTION}
    loader = loaded(tmp_path, content)
    assert loader.config == content
    assert isinstance(loader.hpo, HPO)
    assert isinstance(loader.hpo, WandbSweeps)
    assert loader.hpo is loader.hpo
    assert loader.hpo.section.count == 2
    other: Any = loaded(tmp_path, content, PARALLEL_HPO_COUNT="7").hpo
    assert other.section.count == 7


@pytest.mark.parametrize(
    ("content", "environment"),
    [
        ({"mine": 1}, {}),
        ({"hpo": {"apply": False, "count": 0}}, {}),
        (SECTION["sweep_configuration"], {}),
        ({"hpo": SECTION}, {"PARALLEL_HPO_WORKER": "0"}),
        ({"hpo": SECTION}, {"PARALLEL_HPO_MARK": "1_2_3"}),  # a child that tries a target
    ],
)
def test_there_is_no_hpo_without_a_section_or_inside_a_worker(
    tmp_path: Path, content: Any, environment: dict[str, str]
) -> None:
    assert loaded(tmp_path, content, **environment).hpo is None


def test_a_pickled_loader_has_neither_hpo_nor_environment(tmp_path: Path) -> None:
    loader = loaded(tmp_path, {"hpo": SECTION}, WANDB_API_KEY="secret")
    travelled = pickle.dumps((loader, loader.hpo))
    assert b"secret" not in travelled
    copy, hpo = pickle.loads(travelled)
    assert (copy.config, hpo) == (loader.config, None)


def test_an_invalid_section_is_refused_on_access_and_an_unreadable_file_at_once(tmp_path: Path) -> None:
    loader = loaded(tmp_path, {"mine": 1, "hpo": {**SECTION, "count": 0}})
    assert loader.config["mine"] == 1
    with pytest.raises(ConfigError) as caught:
        _ = loader.hpo
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: hpo.count is 0; allowed: ")
    with pytest.raises(ConfigError, match=r"none\.json: can't be read"):
        ConfigLoader(tmp_path / "none.json")


def test_from_dict_copies_the_dict_and_gives_the_same_hpo_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_file: Any = loaded(tmp_path, {"hpo": SECTION}).hpo
    given = SECTION | {"sweep_configuration": dict(SECTION["sweep_configuration"])}
    of_dict: Any = HPO.from_dict(given)
    given["sweep_configuration"]["method"] = "no such"
    assert of_dict.section == of_file.section
    assert HPO.from_dict({"apply": False}) is None
    monkeypatch.setenv("PARALLEL_HPO_COUNT", "7")
    of_dict = HPO.from_dict(SECTION)
    assert of_dict.section.count == 7
    monkeypatch.setenv("PARALLEL_HPO_WORKER", "0")
    assert HPO.from_dict(SECTION) is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (SECTION | {"cuont": 1}, "HPO.from_dict: hpo.cuont: unknown key; "),
        ({"count": 1}, "HPO.from_dict: hpo.sweep_configuration is missing; "),
        ([1], "HPO.from_dict: hpo is [1]; allowed: a table"),
    ],
)
def test_an_invalid_dict_is_refused_at_once(section: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HPO.from_dict(section)
    assert str(caught.value).startswith(words)
