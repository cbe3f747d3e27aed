"""Whose process is at the other end: by what Linux lists of its sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from parallel_hpo.server.pages.browser_auth import LocalConnections

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: 0100007F:{:04X} 0100007F:{:04X} 01 00000000:00000000 00:00000000 00000000 {:5d}        0 1\n"


def listed(folder: Path, *sockets: tuple[int, int, int]) -> Path:
    path = folder / "tcp"
    path.write_text(HEAD + "".join(LINE.format(*each) for each in sockets))
    return path


def scope(client: tuple[str, int] | None, server: tuple[str, int] = ("127.0.0.1", 80)) -> dict[str, object]:
    return {"client": client, "server": server}


@pytest.mark.parametrize(("owner", "strangers"), [(1000, False), (0, False), (1001, True)])
def test_a_connections_owner_decides(tmp_path: Path, owner: int, strangers: bool) -> None:
    path = listed(tmp_path, (80, 5000, 1000), (5000, 80, owner))
    peers = LocalConnections(lists=(path,), own=lambda: 1000)
    assert peers.is_other_users(scope(("127.0.0.1", 5000))) is strangers


def test_a_second_socket_of_ones_own_hides_no_strangers(tmp_path: Path) -> None:
    path = listed(tmp_path, (5000, 80, 1000), (5000, 80, 1001))
    assert LocalConnections(lists=(path,), own=lambda: 1000).is_other_users(scope(("127.0.0.1", 5000)))


@pytest.mark.parametrize("client", [None, ("10.0.0.7", 5000), ("testclient", 1), ("127.0.0.1", 5001)])
def test_who_is_not_known_from_here_is_no_stranger(tmp_path: Path, client: tuple[str, int] | None) -> None:
    peers = LocalConnections(lists=(listed(tmp_path, (5000, 80, 1001)), tmp_path / "none"), own=lambda: 1000)
    assert not peers.is_other_users(scope(client))


def test_it_is_asked_again_after_a_while(tmp_path: Path) -> None:
    now = 0.0
    path = listed(tmp_path, (5000, 80, 1001))
    peers = LocalConnections(lists=(path,), own=lambda: 1000, clock=lambda: now)
    assert peers.is_other_users(scope(("127.0.0.1", 5000)))
    listed(tmp_path, (5000, 80, 1000))
    assert peers.is_other_users(scope(("127.0.0.1", 5000)))
    now = 60.0
    assert not peers.is_other_users(scope(("127.0.0.1", 5000)))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists sockets")
def test_a_real_connection_is_found_with_its_owner() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ends = {"client": client.getsockname(), "server": server.getsockname()}
        assert not LocalConnections().is_other_users(ends)
        if os.getuid() != 0:
            assert LocalConnections(own=lambda: os.getuid() + 1).is_other_users(ends)
