"""Two runs beside each other, as one page that needs no network."""

from redoubt.judging.cells import shown
from redoubt.judging.comparison import GRADES, Comparison
from redoubt.report.page import render


def page(found: Comparison) -> str:
    """Return a comparison as an HTML page: cells whose numbers differ, the worst first, and claims that turned."""
    cells = [
        {
            "pair": pair,
            "numbers": [shown(pair.metric, side.reproduced if side else None) for side in (pair.first, pair.second)],
            "strong": [shown(pair.metric, side.adaptive if side else None) for side in (pair.first, pair.second)],
        }
        for pair in found.changed
    ]
    return render("comparison.html.jinja", found=found, grades=GRADES, cells=cells)
