"""The page: one file with its style, its script, its charts and its videos, which asks the network
for nothing."""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from metarl.report import plots
from metarl.report.learners_table import beside_rows, what_intervals_are_over
from metarl.report.page import provenance
from metarl.report.page.content import Content
from metarl.report.summary_table import cell, columns, decimals, described

_PARTS = Path(__file__).parent

_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
"""A hyphen that is meant as the sign of a number."""

DARK = {
    plots.BLUE: "#58A6F0",
    plots.ORANGE: "#FF8B47",
    plots.GREEN: "#2CC79B",
    plots.PURPLE: "#E7A1CC",
    plots.GREY: "#A9AFB6",
    plots.SKY: "#93D4FF",
    plots.YELLOW: "#F7C45A",
    plots.INK: "#E8EBEE",
    plots.FAINT: "#7F868E",
    "#E3E5E8": "#33383F",
}
"""What colours become on a dark ground: as far from each other, and bright enough to be read."""


def page(content: Content) -> str:
    """The HTML of a report."""
    environment = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    rows, digits = content.rows, decimals(content.rows) if content.rows else 1
    shown = columns(rows, content.against)
    return environment.get_template("page.html.jinja").render(
        content=content,
        columns=shown,
        table=[(described(row), [cell(row, column, digits) for column in shown]) for row in rows],
        beside=beside_rows(content.found) if rows else [],
        run_head=provenance.RUN_HEAD,
        run_rows=provenance.run_rows(content.learners),
        commands=[
            (of.name, provenance.commands(of), provenance.settings(of)) for of in content.learners
        ],
        over=what_intervals_are_over(content.found) if rows else "",
        style=Markup((_PARTS / "page.css").read_text("utf-8")),
        script=Markup((_PARTS / "page.js").read_text("utf-8")),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=_as_script({chart.key: chart.figure for chart in content.charts}),
        dark=_as_script(DARK),
    )


def _typeset(text: str) -> str:
    """Minus signs instead of hyphens before numbers, and no line between a number and its %."""
    return _MINUS.sub("\N{MINUS SIGN}", text).replace(" %", "\N{NO-BREAK SPACE}%")


def _as_script(value: Any) -> Markup:
    """JSON that can stand in a script: no sign of it ends one."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    return Markup(text.replace("<", "\\u003c"))


def _plain(value: Any) -> Any:
    """Plotly's own objects and arrays as JSON values."""
    return value.to_plotly_json() if hasattr(value, "to_plotly_json") else value.tolist()
