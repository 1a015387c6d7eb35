"""The processes of probes end with whoever asked for them."""

from __future__ import annotations

import pytest

from sweeper.commands import autotune
from sweeper.errors import TrialLostError
from sweeper.space import SweepFolder


class LostGroup:
    """Processes that die before they say what they hold."""

    is_shut_down = False

    def memory_gib(self) -> tuple[float, float]:
        raise TrialLostError("rank 0 died")

    def shut_down(self) -> None:
        self.is_shut_down = True


def test_processes_that_cannot_say_what_they_hold_are_ended(monkeypatch, quick_config, tmp_path):
    group = LostGroup()
    monkeypatch.setattr(autotune, "new_group", lambda config, say: group)
    with pytest.raises(TrialLostError):
        autotune.ProbeWorkers(quick_config(), SweepFolder(tmp_path), lambda line: None)
    assert group.is_shut_down
