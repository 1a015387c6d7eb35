"""The answer of a sweep as a page that people look at: records in, one HTML file out.

Altair is imported when a page is made; it is an extra of this package.
"""

from sweeper.recommend.report.answer import cost_line, gain_line, how_sure_line, next_step
from sweeper.recommend.report.material import Material, ShownExample
from sweeper.recommend.report.page import drawings, report_html

__all__ = [
    "Material",
    "ShownExample",
    "cost_line",
    "drawings",
    "gain_line",
    "how_sure_line",
    "next_step",
    "report_html",
]
