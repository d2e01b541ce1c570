"""The picture of several learners side by side: how they adapt, and how they came to it.

Panels: mean returns after 0, 1, ... updates on held-out tasks; where a task can be solved, how often
it is; returns during training over steps and over time; and, where others recorded returns by task,
these beside ours. A colour is always the same learner's.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from torch import Tensor

from metarl.report.adaptation_plot import (
    FEW,
    LOOKS,
    UNKNOWN,
    Look,
    as_percent,
    far_below,
    name_below,
    speed_levels,
    speed_marks,
)
from metarl.report.evaluation import tasks_in_words
from metarl.report.learners import Learner
from metarl.report.plots import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    STEPS,
    YELLOW,
    add_band,
    add_notes,
    draw_curve,
    figure_of,
    in_time,
    legend_below,
    name_count,
    named_in,
    shortest_time,
    tell_time,
    unit_of_time,
    write_png,
)
from metarl.report.recorded import Recorded
from metarl.report.training_curve import what_bands_are
from metarl.rl.evaluation.several_runs import Estimate, across_runs
from metarl.struct import replace

Numbers = Mapping[str, Any]

# By name, so that a learner looks alike in every picture; others take what is left, in order.
_LOOKS = {
    "maml_ppo": Look(color=BLUE, dashes="-", marker="o"),
    "maml_trpo": Look(color=ORANGE, dashes=(0, (4, 1.5)), marker="s"),
    "promp": Look(color=GREEN, dashes="-.", marker="^"),
    # Dots, for green and purple are one colour to many, and dashes are green's.
    "rl2_ppo": Look(color=PURPLE, dashes=(0, (1.2, 1.2)), marker="D"),
    "memoryless_ppo": Look(color=GREY, dashes=":", marker="v"),
    "varibad": Look(color=SKY, dashes=(0, (8, 2)), marker="X"),
    "pearl": Look(color=YELLOW, dashes=(0, (5, 1, 1, 1)), marker="P"),
    # Few-shot learners, which stand beside none of these
    "maml": Look(color=BLUE, dashes="-", marker="o"),
    "fomaml": Look(color=ORANGE, dashes=(0, (4, 1.5)), marker="s"),
    "protonet": Look(color=GREEN, dashes="-.", marker="^"),
    "reptile": Look(color=PURPLE, dashes=(0, (6, 2, 1, 2)), marker="D"),
}
_ORACLE = Look(color=INK, dashes=(0, (3, 1, 1, 1)), marker="*")
"""The look of who is told the task, whatever it learns by."""
# One after the other differ in everything, so that a print in grey tells them apart, too.
_OTHERS = tuple(
    Look(color=color, dashes=dashes, marker=marker)
    for color, dashes, marker, _ in zip(
        itertools.cycle((SKY, YELLOW, INK, GREEN, ORANGE)),
        itertools.cycle(((0, (8, 2)), (0, (1, 1)), (0, (3, 1, 1, 1)))),
        itertools.cycle("XPhp<*"),
        range(15),
        strict=False,
    )
)
_RECORDED = tuple(
    Look(color=color, dashes=dashes, marker=marker)
    for dashes, markers in (((0, (2, 1)), "x+"), ((0, (5, 1, 1, 1)), "14"), ((0, (1, 2)), "23"))
    for color, marker in zip((INK, FAINT), markers, strict=True)
)


def learners_png(
    path: Path, found: Numbers, learners: Sequence[Learner], recorded: Sequence[Recorded] = ()
) -> None:
    """Draws `learners_figure`. Raises: OSError if `path` can't be written."""
    write_png(path, learners_figure(found, learners, recorded))


def learners_figure(
    found: Numbers, learners: Sequence[Learner], recorded: Sequence[Recorded] = ()
) -> Figure:
    """Args: found: what `learners.side_by_side` says of the learners."""
    curves = [other for other in recorded if other.rows]
    by_task = [other for other in recorded if other.returns is not None]
    told = [learner for learner in learners if learner.runs[0].numbers is not None]
    trained = [learner for learner in learners if all(run.metrics for run in learner.runs)]
    timed = [learner for learner in trained if tell_time(rows_of(learner))]
    panels = ["adaptation"] + ["success"] * tells_success(found)
    panels += ["steps"] * bool(trained or curves) + ["time"] * bool(timed)
    panels += ["tasks"] * bool(by_task and told)
    title = f"{found['env']}: {tasks_in_words(found['num_tasks'], found['split'])}"
    with figure_of(panels=len(panels), title=title) as (figure, axes):
        places = dict(zip(panels, axes, strict=True))
        looks = looks_of([learner.name for learner in learners])
        targets = told[0].runs[0].numbers if told else None
        draw_adaptation(places["adaptation"], found, looks, by_task, targets)
        if "success" in places:
            draw_success(places["success"], found, looks)
        if timed and "steps" in places:
            places["time"].sharey(places["steps"])
        if "steps" in places:
            draw_training(places["steps"], trained, curves, looks)
            _name_bands(places["steps"], trained)
            _name_missing(places["steps"], learners, trained)
        if timed:
            draw_time(places["time"], timed, looks)
            _name_missing(places["time"], learners, timed)
        if "tasks" in places:
            _draw_tasks(places["tasks"], told, looks, by_task)
        seeds = {learner.name: _seeds_in_words(len(learner.runs)) for learner in learners}
        lines = named_in(axes)
        labels = [f"{name}, {seeds[name]}" if name in seeds else name for name in lines]
        legend_below(figure, list(lines.values()), labels)
    return figure


def looks_of(names: Sequence[str], taken: Collection[Look] = ()) -> dict[str, Look]:
    """The look of each learner, by its name. Who is called as an algorithm has the algorithm's,
    else the first whose name begins so; others have what is left.

    Args: taken: looks that stand beside these.
    """
    known = {name: look for name, look in _LOOKS.items() if look not in taken}
    others = [look for look in _OTHERS if look not in taken]
    own, found = {name: known.pop(name) for name in names if name in known}, dict[str, Look]()
    for name in names:
        # Without its memory RL² is the policy that can't adapt.
        if name.endswith("shown the task") and _ORACLE not in {*taken, *found.values()}:
            found[name] = _ORACLE
            continue
        as_it = "memoryless_ppo" if "without memory" in name else re.split("[ ,]", name)[0]
        look = own.get(name) or known.pop(as_it, None)
        found[name] = look or (others.pop(0) if others else _OTHERS[-1])
    return found


def recorded_looks() -> Iterator[Look]:
    """The looks of what others recorded, in order; after six they come again."""
    return itertools.cycle(_RECORDED)


def reference_look(name: str) -> Look:
    """The look of one of the environment's references: that of an evaluation's picture, but for the
    colour, for colours are learners' here."""
    return replace(LOOKS.get(name, UNKNOWN), color=INK)


def draw_adaptation(
    axes: Axes,
    found: Numbers,
    looks: Mapping[str, Look],
    by_task: Sequence[Recorded] = (),
    targets: Sequence[float] | None = None,
) -> None:
    """Draws mean returns after each update with their intervals, and what stands beside them.

    Args: targets: of the learners' tasks; recorded means over others aren't drawn.
    """
    rows = {
        learner["name"]: [row["mean"] for row in learner["returns"]]
        for learner in found["learners"]
    }
    curves: list[tuple[str, Sequence[Estimate | None], Look]] = [
        (name, means, looks[name]) for name, means in rows.items()
    ]
    for other, look in zip(by_task, recorded_looks(), strict=False):
        if not other.differs_from(targets):
            curves.append((other.label, _of_recorded(other), look))
    draw_means(axes, curves)
    beside = found["beside"]
    ends = [
        mean.get(end, mean["value"])
        for _, means, _ in curves
        for mean in means
        if mean is not None
        for end in ("ci_low", "ci_high")
    ]
    ends += [mean for means in beside.get("references", {}).values() for mean in means]
    ends += speed_levels(beside)
    untrained = {"standing still": beside["stand_still"]} if "stand_still" in beside else {}
    below = far_below(ends, untrained)
    name_below(axes, below)
    _draw_beside(axes, {key: of for key, of in beside.items() if key != "stand_still" or not below})
    axes.set_xlabel(counted(found) or "no updates")
    if "fixed_speeds" in beside:
        speed_marks(axes, beside["fixed_speeds"], vertical=False, beside_means=True)
    held_out = "held-out " if found["split"] != "none" else ""
    axes.set_ylabel(f"mean return on {held_out}tasks\nwith its 95 % interval")


def tells_success(found: Numbers) -> bool:
    """Whether any learner's evaluation says which episodes solve their task."""
    return any("success" in learner["returns"][0] for learner in found["learners"])


def draw_success(axes: Axes, found: Numbers, looks: Mapping[str, Look]) -> None:
    """Draws the share of solved episodes after each update, of the learners that tell it."""
    curves = [
        (learner["name"], [row["success"] for row in learner["returns"]], looks[learner["name"]])
        for learner in found["learners"]
        if "success" in learner["returns"][0]
    ]
    draw_means(axes, curves)
    _draw_beside(axes, found["beside"].get("success", {}))
    axes.set_xlabel(counted(found) or "no updates")
    as_percent(axes, vertical=True)


def _draw_beside(axes: Axes, beside: Numbers) -> None:
    if "stand_still" in beside:
        axes.axhline(beside["stand_still"], color=FAINT, ls="-.", lw=1.2, label="standing still")
    for name, means in beside.get("references", {}).items():
        look, words = reference_look(name), name.replace("_", " ")
        line = {"color": look.color, "ls": look.dashes, "lw": 1.0, "label": words}
        if len(means) == 1:
            axes.axhline(means[0], **line)
        else:
            axes.plot(range(len(means)), means, marker=look.marker, ms=4, zorder=1, **line)


def counted(found: Numbers) -> str:
    """What stands on the axis of updates; "" where no learner has any."""
    units = {learner["unit"] for learner in found["learners"] if len(learner["returns"]) > 1}
    if units == {"episode"}:
        return "episodes of the trial played before"
    return " or ".join(_COUNTED[unit] for unit in sorted(units, reverse=True))


def draw_means(axes: Axes, curves: Sequence[tuple[str, Sequence[Estimate | None], Look]]) -> None:
    """Draws means after 0, 1, ... updates with their intervals; nothing where there is no mean.

    Who has nothing to adapt is a line across; where nobody has, each is a point. Estimates without
    an interval have no bar. Many have bands instead of bars.

    Args: curves: of each learner its name, its means, and its look.
    """
    longest = max((len(means) for _, means, _ in curves), default=0)
    adapts = longest > 1
    for number, (name, means, look) in enumerate(curves):
        there = [(update, mean) for update, mean in enumerate(means) if mean is not None]
        value, low, high = (
            [mean.get(end, math.nan) for _, mean in there] for end in ("value", "ci_low", "ci_high")
        )
        if len(means) == 1 and there and adapts:
            axes.axhline(value[0], color=look.color, ls=look.dashes, lw=1.5, label=name)
            if not math.isnan(low[0]):
                axes.axhspan(low[0], high[0], color=look.color, alpha=0.1, lw=0)
            continue
        line = {
            "color": look.color,
            "ls": look.dashes,
            "marker": look.marker,
            "ms": 6,
            "label": name,
        }
        if longest > FEW:  # Bars would stand one upon the other.
            x = [float(update) for update, _ in there]
            add_band(axes, x, low, high, look.color)
            axes.plot(x, value, **(line | {"ms": 4}))
            continue
        aside = 0.06 if adapts else 1.0
        x = [update + aside * (number - (len(curves) - 1) / 2) for update, _ in there]
        reach = [
            [v - a for v, a in zip(value, low, strict=True)],
            [b - v for v, b in zip(value, high, strict=True)],
        ]
        axes.errorbar(x, value, reach, elinewidth=1.4, capsize=3, **line)
    if adapts:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        axes.set_xticks([])
        axes.set_xlim(-len(curves) / 2, len(curves) / 2)


_COUNTED = {"update": "updates on the task", "episode": "episodes of it before (memory)"}


def _of_recorded(other: Recorded) -> list[Estimate]:
    """Means after each update, with intervals over the tasks of the one run."""
    assert other.returns is not None
    generator = torch.Generator().manual_seed(0)
    found = []
    for after in other.returns.unbind(1):
        mean = across_runs(after[None], generator)["mean"]
        assert isinstance(mean, dict)
        found.append(mean)
    return found


_FEW_LEARNERS = 3
"""Learners that leave room for a line for each of their seeds."""
_APART = 8
"""Ratio of the times of two trainings from which their axis is logarithmic, so that the short one
can be seen."""
OF_TRAINING = "mean return of training episodes\nafter adaptation"
"""The label of the axis of returns."""


def draw_training(
    axes: Axes, learners: Sequence[Learner], recorded: Sequence[Recorded], looks: Mapping[str, Look]
) -> None:
    """Draws how training went, over steps, of learners whose runs all have metrics."""
    curves = [(learner.name, rows_of(learner), looks[learner.name]) for learner in learners]
    curves += [
        (other.label, [other.rows], look)
        for other, look in zip(recorded, recorded_looks(), strict=False)
    ]
    shows_before = len(learners) == 1
    for name, runs, look in curves:
        style = {"color": look.color, "dashes": look.dashes, "label": name}
        draw_curve(axes, runs, return_key(runs), each_seed=len(curves) <= _FEW_LEARNERS, **style)
        if shows_before and tells_before(runs):
            label = f"{name}, before adaptation"
            draw_curve(axes, runs, "return_before", color=look.color, dashes=":", label=label)
    name_count(axes, STEPS)
    axes.set_ylabel(OF_TRAINING)


def draw_time(axes: Axes, learners: Sequence[Learner], looks: Mapping[str, Look]) -> None:
    """Draws how training went, over the time that all their rows tell."""
    ends = [shortest_time(rows_of(learner)) for learner in learners]
    name, size = unit_of_time(max(ends))
    if min(ends) > 0 and max(ends) > _APART * min(ends):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        start = min(rows[0]["seconds"] for learner in learners for rows in rows_of(learner))
        axes.set_xlim(max(start, min(ends) / 30) / size, 1.1 * max(ends) / size)
    count = ("time", f"{name} of training")
    for learner in learners:
        runs, look = in_time(rows_of(learner), size), looks[learner.name]
        style = {"color": look.color, "dashes": look.dashes, "label": learner.name}
        draw_curve(axes, runs, return_key(runs), count=count, **style)
    name_count(axes, count)


def _seeds_in_words(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _name_bands(axes: Axes, learners: Sequence[Learner]) -> None:
    """Says below an axis of training what its lines and bands are."""
    bands = what_bands_are([len(learner.runs) for learner in learners])
    told = f"; band: {bands}" if bands else ""
    add_notes(axes, [f"smoothed{told}"])


def _name_missing(axes: Axes, learners: Sequence[Learner], drawn: Sequence[Learner]) -> None:
    """Says below an axis whose curves it can't show."""
    missing = [learner.name for learner in learners if learner not in drawn]
    if missing:
        add_notes(axes, [f"not told by {', '.join(missing)}"])


def _draw_tasks(
    axes: Axes, learners: Sequence[Learner], looks: Mapping[str, Look], by_task: Sequence[Recorded]
) -> None:
    """Returns over the number that makes a task, after as many updates as all have."""
    lengths = [other.num_updates for other in by_task]
    last = min([*lengths, *(learner.returns.shape[2] - 1 for learner in learners)])
    for learner in learners:
        values, look = learner.returns[:, :, last].mean((0, 2)), looks[learner.name]
        assert learner.runs[0].numbers is not None
        _draw_points(axes, torch.tensor(learner.runs[0].numbers), values, look, learner.name)
    for other, look in zip(by_task, recorded_looks(), strict=False):
        assert other.returns is not None and other.targets is not None
        _draw_points(axes, other.targets, other.returns[:, last], look, other.label)
    axes.set_xlabel("the task's target")
    axes.set_ylabel(f"mean return after {last} update{'s' if last != 1 else ''}")


def _draw_points(axes: Axes, x: Tensor, y: Tensor, look: Look, label: str) -> None:
    axes.plot(x, y, color=look.color, marker=look.marker, ls="none", ms=5, label=label)


def rows_of(learner: Learner) -> list[list[dict[str, Any]]]:
    """The metrics of each seed."""
    return [run.metrics for run in learner.runs]


def tells_before(runs: Sequence[Sequence[Numbers]]) -> bool:
    """Whether the rows tell another return before adaptation than after. Trials of one episode have
    one; earlier versions wrote it twice."""
    return any(
        row.get("return_before") not in (None, row.get("return_after"))
        for rows in runs
        for row in rows
    )


def return_key(runs: Sequence[Sequence[Numbers]]) -> str:
    """Trials of one episode have one return."""
    return "return_after" if "return_after" in runs[0][-1] else "return"
