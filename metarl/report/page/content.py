"""All that a report says of some runs, as values: the page and its files only write it down."""

from collections.abc import Sequence
from typing import Any

from metarl.errors import UserError
from metarl.report.finished import Begun, Finished
from metarl.report.learners import (
    Learner,
    differing_in,
    learners,
    named_like,
    renamed,
    side_by_side,
)
from metarl.report.page import films, provenance
from metarl.report.page.chart import Chart
from metarl.report.page.charts import Going, charts
from metarl.report.summary import Summary, summaries
from metarl.report.summary_table import decimals, seeds_in_words
from metarl.struct import struct


@struct
class Content:
    title: str
    learners: list[Learner]
    found: dict[str, Any]  # what `learners.side_by_side` says; empty if nothing is evaluated
    rows: list[Summary]
    against: str | None  # the learner that the others are set against
    lead: list[str]  # what it comes to, a sentence for each learner
    problem: provenance.Facts
    code: provenance.Facts
    charts: list[Chart]
    films: list[films.Film]
    going: list[Going]
    command: str  # that makes the report again


def gathered(
    finished: Sequence[Finished],
    begun: Sequence[Begun],
    *,
    names: Sequence[str] | None,
    against: str | None,
    num_videos: int,
    command: str,
) -> tuple[Content, list[str]]:
    """Returns the content, and a line for each run or video that is left out.

    Args:
      names: of the learners in their order, None for those that their settings give them.
      against: the name of a learner, None for the first one; num_videos: at most so many.
    Raises: UserError for runs that don't belong together, or none that has anything to show.
    """
    of = renamed(learners(finished) if finished else [], names)
    going, notes = _going(begun, of)
    if not of and not going:
        raise UserError(
            f"runs: none of the {len(begun)} runs has anything to show yet; expected an evaluation, "
            "or iterations in metrics.jsonl"
        )
    found = side_by_side(of) if of else {}
    rows, other = summaries(found, of, against) if of else ([], None)
    shown, too_large = films.films(of, num_videos)
    envs = dict.fromkeys(
        [found["env"]] if of else [str(run.config["env"].get("name")) for run in begun]
    )
    content = Content(
        title=", ".join(envs),
        learners=list(of),
        found=found,
        rows=rows,
        against=other,
        lead=[_sentence(row, decimals(rows)) for row in rows],
        problem=provenance.problem(of) if of else [],
        code=provenance.code(finished, begun),
        charts=charts(found, of, going),
        films=shown,
        going=going,
        command=command,
    )
    return content, notes + too_large


def _going(begun: Sequence[Begun], of: Sequence[Learner]) -> tuple[list[Going], list[str]]:
    """The runs that can be shown before their evaluation, and a line for each of the others."""
    found, notes = [], []
    envs = {learner.runs[0].report["env"] for learner in of}
    for run in begun:
        if not run.metrics:
            notes.append(f"left out: {run.place} has neither an evaluation nor an iteration yet")
            continue
        if missing := [key for key in ("env", "algo", "seed") if key not in run.config]:
            raise UserError(
                f"{run.place / 'config.yaml'}: has no {missing[0]}; expected the configuration of "
                "a run"
            )
        env = run.config["env"].get("name")
        if envs and env not in envs:
            raise UserError(f"{run.place} is of {env}; expected {envs.pop()}, as the other runs")
        if of and (keys := differing_in(run, of[0].runs[0])):
            key, (own, other) = next(iter(keys.items()))
            raise UserError(f"{run.place} has env.{key}={own}; expected {other}, as the other runs")
        like = named_like(run, of)
        state = "still going" if run.goes_on else "stopped"
        done, planned = run.metrics[-1]["iteration"] + 1, run.config.get("iterations")
        words = f"{state} at iteration {done}" + (f" of {planned}" if planned else "")
        name = f"{like or run.algo}, seed {run.seed} ({words})"
        found.append(Going(name=name, learner=like, rows=run.metrics))
        notes.append(f"not evaluated yet: {run.place}, {words}; its training is shown")
    return found, notes


def _sentence(row: Summary, digits: int) -> str:
    """What a learner comes to, for who reads nothing else."""
    value, low, high = (f"{row.mean[end]:.{digits}f}" for end in ("value", "ci_low", "ci_high"))
    end = f"{value} [{low}, {high}] {_at(row.stage)}"
    seeds = f"seed{'s' if len(row.seeds) > 1 else ''} {seeds_in_words(row.seeds)}"
    if row.before is None or row.made_worse is None:
        return f"{row.name} ({seeds}): a mean return of {end}."
    worse = f"{100 * row.made_worse['value']:.0f} % of the tasks end lower than they began"
    worse += ", counted for each seed" if len(row.seeds) > 1 else ""
    before = f"{row.before['value']:.{digits}f}"
    return f"{row.name} ({seeds}): a mean return of {before} at first and {end}; {worse}."


def _at(stage: str) -> str:
    return f"in {stage}" if stage.startswith("episode") else stage
