"""The font in static/vendor is what scripts/assets has copied; seen by its hash, without npm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
NPM: Final = ROOT / "scripts" / "npm"
VENDOR: Final = ROOT / "parallel_hpo" / "server" / "pages" / "static" / "vendor"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


MANIFEST: Final = read(VENDOR / "manifest.json")


def test_each_file_has_the_hash_of_the_manifest_and_no_other_lies_there() -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del files["manifest.json"]
    assert files == MANIFEST["sha256"]


def test_the_files_are_of_the_versions_that_are_pinned() -> None:
    wanted = read(NPM / "package.json")
    assert {name: package["version"] for name, package in MANIFEST["packages"].items()} == wanted[
        "dependencies"
    ]


def test_the_lock_is_of_the_versions_that_are_pinned_and_names_no_host() -> None:
    wanted, lock = read(NPM / "package.json"), read(NPM / "package-lock.json")
    for name, version in wanted["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert "://" not in (NPM / "package-lock.json").read_text()


def test_the_licence_of_each_library_lies_beside_it() -> None:
    for name in MANIFEST["packages"]:
        licence = (VENDOR / f"{name.rpartition('/')[2]}.LICENSE").read_text()
        assert "permission is hereby granted" in licence.lower()
