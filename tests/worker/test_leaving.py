"""How a child process ends: files of its parent stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.commanding import CommandLine

PARENT: Final = """
import os
import sys
import tempfile
from parallel_hpo.worker.cleanup import drop_inherited_exit_functions

made = tempfile.TemporaryDirectory()
child = os.fork()
if child == 0:
    drop_inherited_exit_functions()
    own = tempfile.TemporaryDirectory()
    print(own.name, flush=True)
    {end}
    sys.exit()
os.waitpid(child, 0)
print(made.name, os.path.isdir(made.name))
"""


@pytest.mark.parametrize("end", ["del made  # as where a module is loaded anew", ""])
def test_a_parents_temporary_folder_outlives_its_child(
    commands: CommandLine, tmp_path: Path, end: str
) -> None:
    parent = commands.python("-c", PARENT.format(end=end), folder=tmp_path, environment=dict(os.environ))
    stdout, stderr = parent.communicate(30)
    own, made, stayed = stdout.split()
    assert stayed == "True", stderr
    assert not Path(own).exists()
    assert not Path(made).exists()
