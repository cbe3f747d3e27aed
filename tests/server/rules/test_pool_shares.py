"""Fixed shares of a pool's count: each is its own launches', whichever machine they are on."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import Outcome
from tests.server.pool_in_memory import Talk
from tests.server.pooling import TIMEOUT_S, end, machine, start, stopped


class Shares(Talk):
    """A pool of 5 runs, one machine for each of two shares, and one for whatever is left."""

    def __init__(self, count: int | None = 5) -> None:
        super().__init__(count=count)
        self.anybody = self.b
        self.a, self.b = self.launch("1/2", 3), self.launch("2/2", 2)

    def launch(self, share: str, count: int) -> int:
        return self.pool.join(replace(machine("m"), share=share, share_count=count)) or 0

    def again(self, epoch: int) -> list[str]:
        return [run.run_id for run in self.tell(epoch, wants=9).again]


def test_a_share_is_granted_what_it_has_left_and_no_more() -> None:
    talk = Shares()
    assert (talk.tell(talk.a, wants=9).granted, talk.tell(talk.b, wants=9).granted) == (3, 2)
    assert talk.tell(talk.anybody, wants=9).granted == 0


def test_two_launches_of_a_share_have_its_runs_together() -> None:
    talk = Shares()
    second = talk.launch("1/2", 3)
    talk.tell(talk.a, wants=2)
    assert talk.tell(second, wants=9).granted == 1


def test_a_share_is_one_of_a_count_that_the_pool_itself_may_not_have() -> None:
    talk = Shares(count=None)
    assert (talk.tell(talk.a, wants=9).granted, talk.tell(talk.anybody, wants=9).granted) == (3, 9)


def test_the_workers_of_a_share_divide_what_it_has_left_among_themselves() -> None:
    talk = Shares(count=100)
    epoch = talk.launch("1/10", 8)
    assert talk.tell(epoch).each == 2


def test_a_start_beyond_its_share_is_refused_though_it_was_granted() -> None:
    talk = Shares()
    talk.tell(talk.a, wants=3)
    talk.begin(talk.a, "r")
    talk.tell(talk.a, wants=2)
    talk.launch("1/2", 1)
    assert talk.tell(talk.a, wants=2, starts=(start("s"),)).refused == {
        "s": "all 1 runs of share 1/2 have started"
    }


def test_what_a_lost_share_leaves_waits_for_its_next_launch_and_is_no_other_shares() -> None:
    talk = Shares()
    talk.begin(talk.a, "r")
    talk.pool.leave(talk.a, "its task has returned")
    assert talk.again(talk.b) == []
    assert talk.again(talk.launch("1/2", 3)) == ["r"]


def test_the_next_launch_of_a_share_has_what_the_lost_one_had_not_begun() -> None:
    talk = Shares()
    talk.perform(talk.a, "r")
    talk.wait(TIMEOUT_S, heard=talk.b)
    assert talk.tell(talk.launch("1/2", 3), wants=9).granted == 2


def test_a_machine_without_a_share_may_perform_what_one_has_left_and_it_counts_for_the_share() -> None:
    talk = Shares()
    talk.begin(talk.b, "r")
    talk.perform(talk.b, "s")
    talk.pool.leave(talk.b, "gone")
    assert talk.again(talk.anybody) == ["r"]
    talk.tell(talk.anybody, wants=1, starts=(start("r", 2),))
    talk.tell(talk.anybody, ends=(end("r", 2),))
    assert talk.tell(talk.launch("2/2", 2)).ends == SweepEnd("all 2 runs of share 2/2 performed", 0)


def test_a_share_is_done_once_its_own_runs_have_ended_and_the_sweep_goes_on() -> None:
    talk = Shares()
    for run in "rs":
        ends = talk.perform(talk.b, run, Outcome.FINISHED if run == "r" else Outcome.FAILED).ends
    assert ends == SweepEnd("all 2 runs of share 2/2 performed", ExitCode.COMPLETE)
    assert talk.tell(talk.a, wants=9).ends is None
    assert talk.pool.look() is None


def test_a_share_of_which_no_run_finished_says_so_by_its_code() -> None:
    talk = Shares()
    talk.perform(talk.b, "r", Outcome.FAILED)
    ends = talk.perform(talk.b, "s", Outcome.FAILED).ends
    assert ends is not None and ends.exit_code == ExitCode.NO_RUN_FINISHED


def test_a_share_whose_run_is_between_two_attempts_is_not_done() -> None:
    talk = Shares()
    talk.perform(talk.b, "r")
    talk.begin(talk.b, "s")
    talk.tell(talk.b, ends=(end("s", 1, Outcome.CRASHED, final=False),))
    assert talk.tell(talk.b).ends is None


def test_a_share_of_a_grid_that_is_used_up_is_done_once_nobody_can_give_a_run_back() -> None:
    talk = Shares()
    talk.perform(talk.b, "r")
    talk.tell(talk.a, wants=1)
    assert talk.tell(talk.b, over="the grid is used up").ends is None
    talk.begin(talk.a, "s")
    assert talk.tell(talk.b, over="the grid is used up").ends == SweepEnd("the grid is used up", 0)
    assert talk.tell(talk.launch("3/3", 1)).ends == SweepEnd("the grid is used up", ExitCode.COMPLETE)
    talk.tell(talk.a, ends=(stopped("s"),))
    assert talk.tell(talk.a, wants=1, wants_again=1, over="the grid is used up").ends is None
