"""A sweep of days outlives its screen: whatever becomes of it, writing neither waits nor fails."""

from __future__ import annotations

import io
import os
import pty

import pytest
from waiting import eventually

from sweeper.screen.screen import LastingStream, Screen

LINE = "a line of thirty-two characters\n"


@pytest.fixture(params=["pipe", "terminal"])
def ends(request):
    """Where a person reads, and where a program writes."""
    return os.pipe() if request.param == "pipe" else pty.openpty()


def test_what_is_written_arrives_in_order(ends):
    reader, writer = ends
    stream = LastingStream(writer, encoding="utf-8", lost=lambda _: None)
    for number in range(100):
        stream.write(f"line {number}, 学习率\n")
    stream.close()
    lines = b""
    while lines.count(b"\n") < 100:
        lines += os.read(reader, 4096)
    assert lines.decode().replace("\r", "").splitlines() == [f"line {n}, 学习率" for n in range(100)]
    os.close(reader)


def test_a_reader_that_is_gone_is_noticed_once_and_costs_nothing(ends):
    reader, writer = ends
    lost: list[OSError] = []
    stream = LastingStream(writer, encoding="utf-8", lost=lost.append)
    os.close(reader)
    stream.write(LINE)
    assert eventually(lambda: lost)
    for _ in range(100):
        stream.write(LINE)
    stream.close()
    assert len(lost) == 1


def test_a_full_disk_is_as_good_as_no_reader():
    lost: list[OSError] = []
    stream = LastingStream(os.open("/dev/full", os.O_WRONLY), encoding="utf-8", lost=lost.append)
    stream.write(LINE)
    stream.close()
    assert [error.strerror for error in lost] == ["No space left on device"]


def test_a_reader_that_stops_reading_is_not_waited_for_and_reads_on_later(ends):
    reader, writer = ends
    stream = LastingStream(writer, encoding="utf-8", lost=lambda _: None)
    for _ in range(20_000):  # more than the system and the stream keep
        stream.write(LINE)
    read = os.read(reader, 2**16)
    assert eventually(lambda: stream._waiting.empty() or os.read(reader, 2**16) == b"")
    stream.write("news\n")
    while b"news" not in read:
        read = read[-1000:] + os.read(reader, 2**16)
    assert "lines stand in the log alone]" in read.decode()
    stream.close()
    os.close(reader)


def test_a_line_stands_in_the_log_as_well_and_a_log_without_room_stops_nobody():
    shown, log = io.StringIO(), io.BytesIO()
    screen = Screen(shown, log=log)
    screen.say("trial 0 starts [1/3]")
    assert shown.getvalue() == "trial 0 starts [1/3]\n"
    assert log.getvalue().decode().endswith("  trial 0 starts [1/3]\n")
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        Screen(shown, log=full).say("trial 1 starts")
    assert "trial 1 starts" in shown.getvalue()
