"""When an interrupt is let through: never in the middle of a commit, unless that does not end."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from waiting import HANGS_AFTER_S, eventually

from sweeper.screen import interrupts
from sweeper.screen.interrupts import Interrupts
from sweeper.search.commits import committing


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def waited(seconds: float) -> float:
    """Pass the time in steps of bytecode, as a commit does; returns what it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(0.005)
    return time.monotonic() - began


def test_an_interrupt_in_the_middle_of_a_commit_comes_after_it():
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts():
        with committing():
            interrupt()
            done.append(waited(0.2))
        waited(HANGS_AFTER_S)
        done.append("went on as if nothing had been")
    assert len(done) == 1


def test_an_interrupt_elsewhere_comes_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts():
        with committing():
            done.append(waited(0.01))
        interrupt()
        done.append(waited(0.02))
    assert len(done) == 1


def test_a_commit_that_does_not_end_is_interrupted_all_the_same(monkeypatch):
    monkeypatch.setattr(interrupts, "_PATIENCE_S", 0.2)
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts(), committing():
        interrupt()
        waited(HANGS_AFTER_S)
        done.append("went on until its end")
    assert not done


def test_an_interrupt_that_waits_at_the_end_is_not_lost():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts(), committing():
        interrupt()
        signal.getsignal(signal.SIGINT)  # some bytecode, for the handler to run
    assert signal.getsignal(signal.SIGINT) is before
    time.sleep(0.1)  # nothing comes after it


def test_an_interrupt_while_an_object_is_deleted_is_not_lost():
    class Deleted:
        def __del__(self) -> None:
            interrupt()
            done.append(waited(0.02))

    hook, done = sys.unraisablehook, []
    with pytest.raises(KeyboardInterrupt), Interrupts():
        Deleted()
        waited(HANGS_AFTER_S)
        done.append("went on as if nothing had been")
    assert not done
    with pytest.raises(KeyboardInterrupt), Interrupts():
        Deleted()
    assert not done
    assert sys.unraisablehook is hook
    time.sleep(0.1)  # nothing comes after it


def test_a_closed_terminal_asks_once_however_often_it_is_told_of():
    """The shell tells of it, and the kernel does."""
    asked = []
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt), Interrupts() as at_work:
        at_work.ask_first(lambda: asked.append(time.monotonic()))
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
            waited(0.05)
        assert len(asked) == 1
        interrupt()
        waited(5)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # what is left to do is done
    signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_closed_terminal_is_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts() as at_work:
        at_work.ask_first(lambda: pytest.fail("it was heard"))
        os.kill(os.getpid(), signal.SIGHUP)
        waited(0.05)
        at_work.ask_first(None)
    assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN


def test_the_first_signal_asks_and_the_second_interrupts():
    asked = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as at_work:
        at_work.ask_first(lambda: asked.append(True))
        interrupt()
        assert eventually(lambda: len(asked) == 1)
        interrupt()
        waited(HANGS_AFTER_S)
    assert len(asked) == 1
