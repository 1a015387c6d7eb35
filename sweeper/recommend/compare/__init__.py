"""Several sweeps beside each other: what of one's answer holds in the others, with numbers.

Every comparison is made inside of one sweep, by its own trials: losses on other rows, or of other models, are
no rivals of each other.
"""

from sweeper.recommend.compare.comparison import Comparison, SweepSide, compare
from sweeper.recommend.compare.page import comparison_html
from sweeper.recommend.compare.tables import comparison_tables, verdicts

__all__ = ["Comparison", "SweepSide", "compare", "comparison_html", "comparison_tables", "verdicts"]
