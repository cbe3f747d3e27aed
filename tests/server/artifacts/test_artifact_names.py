from __future__ import annotations

import pytest

from parallel_hpo.server.artifacts.contents import check_name, check_no_registry, check_tag
from parallel_hpo.server.values import RefusedError


@pytest.mark.parametrize("name", ["", ".", "..", "a/b:c", "a:b", "a/b", "a\nb", "a\x7f", "a" * 129])
def test_a_name_that_the_client_could_not_name_again_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="1 to 128 characters, without '/' and ':'"):
        check_name(name)


@pytest.mark.parametrize("name", ["data", "run-1-table", "a b", "Größe", "...", "a" * 128])
def test_all_other_names_will_do(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("tag", ["", " ", "a/b", " a", "a ", "a!", "a" * 129])
def test_a_tag_that_the_client_would_not_take_is_refused(tag: str) -> None:
    with pytest.raises(RefusedError, match=r"tag .*: 1 to 128 letters"):
        check_tag(tag)


@pytest.mark.parametrize("tag", ["a", "a b", "a-b_c", "a" * 128])
def test_all_other_tags_will_do(tag: str) -> None:
    assert check_tag(tag) == tag


def test_a_registry_is_refused_and_no_project_that_only_sounds_like_one() -> None:
    check_no_registry("my-wandb-registry-model")
    with pytest.raises(RefusedError, match="'wandb-registry-model' is a registry"):
        check_no_registry("wandb-registry-model")
