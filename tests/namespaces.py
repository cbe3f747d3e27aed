"""Machines of one's own on this one: network namespaces on a bridge, whose cables can be pulled.

What runs in one shares this machine's clock, disk and processes, and has a network of its own: a cut is
what it is between real machines, no packet and no answer. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

HOST: Final = "10.199.{net}.1"


@dataclass(frozen=True, slots=True)
class Machine:
    """One of them; the names are those of its namespace and of this side's end of its cable."""

    name: str
    namespace: str
    cable: str
    address: str

    def popen(self, command: Sequence[str], env: Mapping[str, str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a command on it; its process is the command's own."""
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *command], env=dict(env), **how
        )

    def cut(self) -> None:
        """Pull its cable."""
        _run("ip", "link", "set", self.cable, "down")

    def heal(self) -> None:
        """Put it back."""
        _run("ip", "link", "set", self.cable, "up")


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge, this machine on it, and the others."""

    address: str
    """This machine's, as the others reach it."""
    machines: tuple[Machine, ...]


@contextmanager
def network(machines: int) -> Iterator[Network]:
    """Lay a network of so many machines, m1, m2, …; end what runs there before it is left."""
    net = os.getpid() % 250
    tag = f"{os.getpid():x}"
    with ExitStack() as stack:
        bridge = f"hpo{tag}"
        _run("ip", "link", "add", bridge, "type", "bridge")
        stack.callback(_run, "ip", "link", "del", bridge)
        _run("ip", "addr", "add", f"{HOST.format(net=net)}/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        found = tuple(_machine(number, tag, net, bridge, stack) for number in range(1, machines + 1))
        yield Network(HOST.format(net=net), found)


def _machine(number: int, tag: str, net: int, bridge: str, stack: ExitStack) -> Machine:
    namespace, cable, far = f"hpo-{tag}-{number}", f"h{tag}-{number}", f"g{tag}-{number}"
    address = f"10.199.{net}.{number + 1}"
    _run("ip", "netns", "add", namespace)
    stack.callback(_run, "ip", "netns", "del", namespace)
    _run("ip", "link", "add", cable, "type", "veth", "peer", "name", far)
    _run("ip", "link", "set", far, "netns", namespace)
    _run("ip", "link", "set", cable, "master", bridge, "up")
    for words in (f"addr add {address}/24 dev {far}", f"link set {far} up", "link set lo up"):
        _run("ip", "-n", namespace, *words.split())
    return Machine(f"m{number}", namespace, cable, address)


@cache
def why_no_network() -> str | None:
    """Return why there can be none here; None: there can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    try:
        with network(1):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        return f"no network namespaces here: {said.decode().strip() or error}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
