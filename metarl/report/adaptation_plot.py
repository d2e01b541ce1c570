"""The picture of an evaluation: what adaptation brings on held-out tasks, beside whoever else was
played there.

Over updates or episodes it is a curve; of trials of a single episode it is a point for each agent,
and beside it what happens within the episode. Where tasks can be solved, the share of solved
episodes is drawn, too. A colour is always the same agent's.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metarl.report.plots import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    add_band,
    add_notes,
    figure_of,
    legend_below,
    write_png,
)
from metarl.struct import struct

Row = Mapping[str, Any]

FEW = 5  # up to so many points beside each other have intervals of their own; more have bands


@struct
class Look:
    color: str
    dashes: Any
    marker: str


# By what an agent is, never by how many are drawn: Okabe and Ito's colours, and dashes and markers
# that say the same in grey.
LOOKS: dict[str, Look] = {
    "learner": Look(color=BLUE, dashes="-", marker="o"),
    "random_initialisation": Look(color=GREY, dashes="--", marker="s"),
    "stand_still": Look(color=FAINT, dashes="-.", marker="v"),
    # Bounds, that no agent can pass.
    "oracle": Look(color=INK, dashes=(0, (6, 2)), marker="D"),
    "upper_bound": Look(color=INK, dashes=(0, (1, 1)), marker="D"),
    # The best of those who don't know the task.
    "bayes_optimal": Look(color=GREEN, dashes=(0, (3, 1)), marker="^"),
    "gittins": Look(color=GREEN, dashes=(0, (3, 1)), marker="^"),
    # Agents that act on a sample of what the task may be.
    "posterior_sampling": Look(color=ORANGE, dashes=(0, (1, 1)), marker="P"),
    "thompson_sampling": Look(color=ORANGE, dashes=(0, (1, 1)), marker="P"),
    # Other rules.
    "posterior_mean": Look(color=PURPLE, dashes=(0, (6, 2, 1, 2, 1, 2)), marker="X"),
    "ucb1": Look(color=PURPLE, dashes=(0, (6, 2, 1, 2, 1, 2)), marker="X"),
    "scripted": Look(color=SKY, dashes=(0, (8, 2)), marker="*"),
}
UNKNOWN = Look(color=YELLOW, dashes=(0, (4, 1, 1, 1)), marker="h")


def adaptation_curve_png(path: Path, report: Row, *, title: str | None = None) -> None:
    """Draws an evaluation, see `adaptation_figure`. Raises: OSError if `path` can't be written."""
    write_png(path, adaptation_figure(report, title=title))


def adaptation_figure(report: Row, *, title: str | None = None) -> Figure:
    """Args: report: what evaluation.json holds. title: None for environment, algorithm and number
    of tasks."""
    agents = {
        "learner": report["returns"],
        "random_initialisation": report["random_initialisation"],
    }
    if "stand_still" in report:
        agents["stand_still"] = report["stand_still"]
    agents |= report.get("references", {})
    names = {name: name.replace("_", " ") for name in agents}
    names |= {"learner": report.get("algo") or "learner", "stand_still": "standing still"}
    single = len(report["returns"]) == 1
    within = report.get("within_episode", {})
    panels = ["returns"] + [
        name
        for name in ("within", "success")
        if (within if name == "within" else _has_success(report))
    ]
    below = {} if single else _below_sight(report, names)
    agents = {name: rows for name, rows in agents.items() if names[name] not in below}
    with figure_of(panels=len(panels), title=title or _title(report)) as (figure, axes):
        draw = _points if single else _curves
        draw(axes[0], agents, names, report["unit"], ("iqm", "ci_low", "ci_high"))
        name_below(axes[0], below)
        if single:
            axes[0].set_xlabel(
                "return of the episode (mark: IQM, bar: its 95 % interval, tick: mean)"
            )
        else:
            axes[0].set_ylabel("return of an episode\nIQM with its 95 % interval")
        if "fixed_speeds" in report:
            speed_marks(axes[0], report["fixed_speeds"], vertical=single, beside_means=False)
        for place, panel in zip(axes[1:], panels[1:], strict=True):
            if panel == "within":
                _within(place, within, names)
            else:
                success = {name: rows for name, rows in agents.items() if _solves(rows)}
                draw(
                    place,
                    success,
                    names,
                    report["unit"],
                    ("success_rate", "success_ci_low", "success_ci_high"),
                )
                as_percent(place, vertical=not single)
        if not single or "within" in panels:
            _legend(figure, agents, names, with_mean=not single)
    return figure


def _below_sight(report: Row, names: Mapping[str, str]) -> dict[str, float]:
    """Which of those that learnt nothing earn so little that their lines aren't drawn."""
    others = {"random_initialisation": report["random_initialisation"][0]}
    if "stand_still" in report:
        others["stand_still"] = report["stand_still"]
    ends = [row[end] for row in report["returns"] for end in ("ci_low", "ci_high")]
    ends += speed_levels(report)
    return far_below(ends, {names[name]: row["iqm"] for name, row in others.items()})


def speed_levels(report: Row) -> list[float]:
    """What the best fixed speeds earn, as `speed_marks` marks it; none where they aren't told."""
    bounds = report.get("fixed_speeds", {}).get("bounds", ())
    return [bound["mean_with_allowance"] for bound in bounds]


def far_below(drawn: Iterable[float], others: Mapping[str, float]) -> dict[str, float]:
    """Returns which of `others` lie so far below what is drawn that this would be pressed flat
    beside them: further than twice what it reaches over."""
    values = [value for value in drawn if math.isfinite(value)]
    reach = max(values) - min(values)
    return {
        name: value
        for name, value in others.items()
        if reach > 0 and value < min(values) - 2 * reach
    }


def name_below(axes: Axes, below: Mapping[str, float]) -> None:
    """Says at the lower edge of an axis who lies below it."""
    if below:
        words = ", ".join(f"{name} {value:z.0f}" for name, value in below.items())
        axes.annotate(
            f"↓ {words}".replace("-", "−"),
            (0, 0),
            xycoords="axes fraction",
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=8.5,
            color=GREY,
        )


def _title(report: Row) -> str:
    count = report["num_tasks"]
    tasks = (
        f"{count} {'held-out ' if report['split'] != 'none' else ''}task{'s' if count != 1 else ''}"
    )
    return (
        f"{report['env']}, {report['algo']}: {tasks}"
        if report.get("algo")
        else f"{report['env']}: {tasks}"
    )


def _curves(
    axes: Axes,
    agents: Mapping[str, Any],
    names: Mapping[str, str],
    unit: str,
    keys: tuple[str, str, str],
) -> None:
    """Draws the agents' means over updates, or over episodes of the trial. Agents that don't change
    are lines across. Few points stand beside each other."""
    key = keys[0]
    first, xlabel = (1, "episode of the trial") if unit == "episode" else (0, "updates on the task")
    moving = [name for name, rows in agents.items() if not isinstance(rows, Mapping)]
    num_points = max(len(agents[name]) for name in moving)
    for name, rows in agents.items():
        look = _look(name)
        if isinstance(rows, Mapping):
            axes.axhline(
                rows[key], color=look.color, ls=look.dashes, lw=1.5, label=names[name], zorder=1
            )
            continue
        x = np.array([first + row["update"] for row in rows], dtype=float)
        value, below, above = (np.array([row[k] for row in rows], dtype=float) for k in keys)
        order = 4 if name == "learner" else 3
        line = {
            "color": look.color,
            "ls": look.dashes,
            "marker": look.marker,
            "ms": 6,
            "zorder": order,
        }
        if num_points <= FEW:
            x = x + 0.07 * (moving.index(name) - (len(moving) - 1) / 2)
            reach = np.stack([value - below, above - value]).clip(min=0)
            axes.errorbar(
                x, value, reach, label=names[name], elinewidth=1.4, capsize=4, capthick=1.4, **line
            )
        else:
            add_band(axes, x, below, above, look.color)
            axes.plot(x, value, label=names[name], **line)
        if name == "learner" and key == "iqm":
            axes.plot(
                x,
                [row["mean"] for row in rows],
                color=look.color,
                marker="_",
                ls=":",
                lw=1.2,
                label=f"{names[name]}, mean",
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(xlabel)


def _points(
    axes: Axes,
    agents: Mapping[str, Any],
    names: Mapping[str, str],
    unit: str,
    keys: tuple[str, str, str],
) -> None:
    """A row for each agent, the best on top."""
    key, low, high = keys
    rows = {name: row if isinstance(row, Mapping) else row[0] for name, row in agents.items()}
    order = sorted(rows, key=lambda name: rows[name][key])
    for y, name in enumerate(order):
        look, row = _look(name), rows[name]
        axes.hlines(y, row[low], row[high], color=look.color, lw=5, alpha=0.35)
        axes.plot(
            row[key], y, color=look.color, marker=look.marker, ms=8, ls="none", label=names[name]
        )
        if key == "iqm":
            axes.plot(row["mean"], y, color=look.color, marker="|", ms=13, mew=1.8, ls="none")
    axes.set_yticks(range(len(order)), [names[name] for name in order])
    for tick, name in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_fontweight("bold" if name == "learner" else "normal")
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.grid(visible=False, axis="y")


def _within(axes: Axes, within: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name, curves in within.items():
        look, row = _look(name), curves["reward"]
        steps, width = curves["step"], 2.2 if name == "learner" else 1.4
        if name == "learner":
            add_band(axes, steps, row["ci_low"], row["ci_high"], look.color)
        axes.plot(steps, row["mean"], color=look.color, ls=look.dashes, lw=width, label=names[name])
    axes.set_xlabel("step of the episode")
    axes.set_ylabel("mean reward of a step")
    measured = {
        name: row for name, row in within["learner"].items() if name not in ("step", "reward")
    }
    for name, row in measured.items():
        other = axes.twinx()
        other.plot(within["learner"]["step"], row["mean"], color=INK, lw=1.2, ls=":")
        other.set_ylabel(f"{name} (dotted)")
        other.set_ylim(bottom=0)
        other.grid(visible=False)
        other.spines["right"].set_visible(True)


def speed_marks(axes: Axes, speeds: Row, *, vertical: bool, beside_means: bool) -> None:
    """What the best fixed speeds earn in the mean, as short marks at the far edge, named there; a
    note below the axis says what else is needed to read them. To be called when all else is drawn.

    Args: beside_means: the axis is one of means.
    """
    allowance = speeds.get("allowance", 0.0)
    notes = [] if beside_means else ["mean"]
    notes += [f"less {allowance:g} (run-up, control)"] if allowance else []
    if notes:
        add_notes(axes, [f"fixed speeds: {', '.join(notes)}"])
    bounds = sorted(speeds["bounds"], key=lambda bound: float(bound["mean_with_allowance"]))
    for bound in bounds:
        value = bound["mean_with_allowance"]
        if vertical:
            axes.axvline(value, ymin=0.97, color=INK, lw=1.2)
        else:
            axes.axhline(value, xmin=0.97, color=INK, lw=1.2)
    low, high = axes.get_xlim() if vertical else axes.get_ylim()
    for together in _near(bounds, (_TOO_NEAR_ACROSS if vertical else _TOO_NEAR) * (high - low)):
        counts = sorted(bound["num_speeds"] for bound in together)
        numbers = " and ".join(map(str, counts))
        if len(counts) > 2:
            numbers = f"{counts[0]} to {counts[-1]}"
        text = f"{numbers} fixed speed{'s' if counts != [1] else ''}"
        at = sum(bound["mean_with_allowance"] for bound in together) / len(together)
        axes.annotate(
            text,
            (at, 1) if vertical else (1, at),
            xycoords=("data", "axes fraction") if vertical else ("axes fraction", "data"),
            xytext=(0, 2) if vertical else (3, 0),
            textcoords="offset points",
            ha="center" if vertical else "left",
            va="baseline" if vertical else "center",
            fontsize=8,
            color=INK,
        )


_TOO_NEAR, _TOO_NEAR_ACROSS = 0.06, 0.17  # parts of an axis that a label takes


def _near(bounds: Sequence[Row], distance: float) -> list[list[Row]]:
    """Returns the bounds in groups of those whose labels would lie upon each other."""
    groups: list[list[Row]] = []
    for bound in bounds:
        if groups and (
            bound["mean_with_allowance"] - groups[-1][-1]["mean_with_allowance"] < distance
        ):
            groups[-1].append(bound)
        else:
            groups.append([bound])
    return groups


def as_percent(axes: Axes, *, vertical: bool) -> None:
    """Makes an axis that of the share of solved episodes, from none to all."""
    label = (
        "solved episodes\nwith a 95 % interval"
        if vertical
        else "solved episodes, with a 95 % interval"
    )
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    (axes.set_ylim if vertical else axes.set_xlim)(-0.03, 1.03)
    axis.set_label_text(label)


def _legend(
    figure: Figure, agents: Mapping[str, Any], names: Mapping[str, str], *, with_mean: bool
) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=_look(name).color,
            ls=_look(name).dashes,
            marker=_look(name).marker,
            label=names[name],
        )
        for name in agents
    ]
    if with_mean:
        handles.insert(
            1,
            Line2D(
                [], [], color=BLUE, marker="_", ls=":", lw=1.2, label=f"{names['learner']}, mean"
            ),
        )
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles])


def _look(name: str) -> Look:
    return LOOKS.get(name, UNKNOWN)


def _has_success(report: Row) -> bool:
    return "success_rate" in report["returns"][0]


def _solves(rows: Any) -> bool:
    return "success_rate" in (rows if isinstance(rows, Mapping) else rows[0])
