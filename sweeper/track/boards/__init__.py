"""Where people look at runs beside MLflow (``tracking.also``): mirrors that may break, and then are dropped.

A board is told the same as MLflow, by the same calls. What it has already is not asked of it, since it may be
on a server or in a format of its own: beside its files stands how far each trial was written. What a killed
driver wrote and did not note is written once more at the same step, which both boards take for one point.
"""

from sweeper.track.boards.chosen import boards_of, check_boards
from sweeper.track.boards.writer import BoardWriter

__all__ = ["BoardWriter", "boards_of", "check_boards"]
