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
from metarl.report.learners_table import beside_rows, notes, what_intervals_are_over
from metarl.report.page import provenance
from metarl.report.page.chart import Chart
from metarl.report.page.charts import Going
from metarl.report.page.content import Content
from metarl.report.page.films import Film
from metarl.report.summary_table import cell, columns, decimals, in_words
from metarl.struct import struct

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


@struct
class Page:
    """What stands on a page, in words and numbers as they are read."""

    title: str
    lead: list[str]  # what it comes to, a sentence for each learner
    problem: provenance.Facts
    code: provenance.Facts
    columns: list[tuple[str, str]]  # heads of the table, and what they mean
    table: list[tuple[str, str, list[tuple[str, str] | None]]]  # names, words, values and intervals
    intervals: str  # what the intervals are
    charts: list[Chart]
    beside: list[tuple[str, str]]  # what doesn't learn, and its numbers
    beside_note: str
    beside_head: str
    films: list[Film]
    pictures: list[Film]
    going: list[Going]
    run_head: list[str]
    run_rows: list[list[str]]
    commands: list[tuple[str, list[str], str]]  # of each learner: name, commands, configuration
    command: str  # that makes the page again


def page(content: Content) -> str:
    """The HTML of a report on reinforcement learning."""
    rows, digits = content.rows, decimals(content.rows) if content.rows else 1
    shown = columns(rows, content.against)
    over = what_intervals_are_over(content.found) if rows else ""
    seen = notes(content.found) if rows else ""
    return written(
        Page(
            **{name: getattr(content, name) for name in _AS_THEY_ARE},
            columns=[(column.head, column.meaning) for column in shown],
            table=[
                (row.name, in_words(row), [cell(row, column, digits) for column in shown])
                for row in rows
            ],
            intervals=f"In brackets: 95 % intervals {over}. A training seed makes the scores of all "
            "tasks, so seeds are drawn first and then tasks, the same ones for all seeds." + seen,
            beside=[(name, text) for name, text in beside_rows(content.found)] if rows else [],
            beside_note="Returns on the same tasks of what doesn't learn. A learner is worth its "
            "training if it beats them.",
            beside_head="mean return, after each update where it differs",
            pictures=[],
            run_head=provenance.RUN_HEAD,
            run_rows=provenance.run_rows(content.learners),
            commands=[
                (of.name, provenance.commands(of.runs), provenance.settings(of.runs))
                for of in content.learners
            ],
        )
    )


_AS_THEY_ARE = ("title", "lead", "problem", "code", "charts", "films", "going", "command")


def written(shown: Page) -> str:
    """The HTML of a page."""
    environment = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    return environment.get_template("page.html.jinja").render(
        page=shown,
        style=Markup((_PARTS / "page.css").read_text("utf-8")),
        script=Markup((_PARTS / "page.js").read_text("utf-8")),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=_as_script({chart.key: chart.figure for chart in shown.charts}),
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
