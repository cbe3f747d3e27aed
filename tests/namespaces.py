"""Simulated machines: network namespaces on a bridge, whose cables can be pulled.

Each shares this machine's clock, disk and processes, and has a network of its own. A cut is
like one between real machines: no packet and no answer. Needs root.
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
    """A simulated machine, with the names of its namespace and of this end of its cable."""

    name: str
    namespace: str
    cable: str
    address: str

    def popen(self, command: Sequence[str], env: Mapping[str, str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a command on the machine; the returned process is the command itself."""
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *command], env=dict(env), **how
        )

    def cut(self) -> None:
        """Pull its cable."""
        _run("ip", "link", "set", self.cable, "down")

    def heal(self) -> None:
        """Plug its cable in again."""
        _run("ip", "link", "set", self.cable, "up")


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge with this machine and the simulated ones."""

    address: str
    """Address of this machine for the others."""
    machines: tuple[Machine, ...]


@contextmanager
def network(machines: int) -> Iterator[Network]:
    """Create a network of machines m1, m2, …; their processes must end before the block does."""
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
    """Return why no network can be created here, or None."""
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
