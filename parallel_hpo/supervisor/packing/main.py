"""Make `main` fit to travel: by value, with cloudpickle, or say what in it can't."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from parallel_hpo.errors import TargetError
from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.supervisor.packing.parcel import Parcel
from parallel_hpo.supervisor.packing.script_pickler import Definitions, ScriptPickler
from parallel_hpo.supervisor.packing.script_rest import describe_script, names_of_script
from parallel_hpo.supervisor.packing.used import explain, say_weight
from parallel_hpo.words import Program, Target

HEAVY_BYTES: Final = 50 * 10**6
"""From here on it is said: unpickling takes a noticeable part of a second in every worker."""


def pack_main(
    main: Callable[[], object] | Target | Program, stack: ExitStack, *, travels: bool = False
) -> PickledMain | Target | Program:
    """Return `main` as it goes to the workers, until `stack` is closed; `travels`: to other machines, too.

    Raises:
        TargetError: it isn't callable, or something that it uses can't be pickled; names that.
    """
    if isinstance(main, Target | Program):
        return main
    if not callable(main):
        raise TargetError(f"main is a {type(main).__name__}, not a function: give one without arguments")
    names = names_of_script(main)
    parcel = Parcel(stack, whole=travels)
    pickler = ScriptPickler(parcel.file, names, parcel.take)
    try:
        pickler.dump((main, Definitions()))
    except Exception as error:  # noqa: BLE001 - whatever an object's own reduction raises
        raise TargetError(explain(main, error)) from None
    size = parcel.size
    return PickledMain(parcel.close(), describe_script(names, pickler), size)


def why_heavy(main: Callable[[], object] | Target | Program, packed: PickledMain | Target | Program) -> str:
    """Return what makes `main` large, in words; '' where it is not."""
    if isinstance(main, Target | Program) or isinstance(packed, Target | Program):
        return ""
    return say_weight(main, packed.size) if packed.size > HEAVY_BYTES else ""
