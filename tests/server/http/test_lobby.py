from __future__ import annotations

from parallel_hpo.server.http.connections import Lobby


def full(*, strangers: str = "", known: str = "", busy: str = "") -> Lobby[str]:
    """A lobby in which there is no more room."""
    lobby: Lobby[str] = Lobby(len(strangers + known + busy))
    for guest in strangers + known + busy:
        assert lobby.enter(guest) is None
    for guest in known + busy:
        lobby.begin(guest)
    for guest in known:
        lobby.end(guest, had_key=True)
    return lobby


def test_as_long_as_there_is_room_nobody_has_to_go() -> None:
    lobby: Lobby[str] = Lobby(2)
    assert [lobby.enter(guest) for guest in "ab"] == [None, None]
    lobby.leave("a")
    assert lobby.enter("c") is None


def test_the_stranger_that_came_first_has_to_go() -> None:
    lobby = full(strangers="ab", known="k", busy="r")
    assert [lobby.enter(guest) for guest in "xyz"] == ["a", "b", "x"]


def test_without_strangers_the_known_one_goes_that_has_been_silent_longest() -> None:
    lobby = full(known="kl", busy="r")
    lobby.begin("k")
    lobby.end("k", had_key=True)
    assert lobby.enter("x") == "l"


def test_where_all_are_busy_the_newest_one_goes() -> None:
    assert full(busy="rs").enter("x") == "x"


def test_a_request_without_a_key_makes_nobody_known() -> None:
    lobby = full(strangers="a", known="k")
    lobby.begin("a")
    lobby.end("a", had_key=False)
    assert lobby.enter("x") == "a"
