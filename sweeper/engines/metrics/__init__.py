"""What a trainer has measured, read while it writes: one reader for each place."""

from sweeper.engines.metrics.point import Point, Reader
from sweeper.engines.metrics.readers import reader_of

__all__ = ["Point", "Reader", "reader_of"]
