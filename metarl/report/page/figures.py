"""The charts and the table of a report as files for a paper: each chart as PDF and PNG, the table as
LaTeX, Markdown and CSV."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from metarl.report.adaptation_plot import Look
from metarl.report.evaluation import stage, tasks_in_words
from metarl.report.learners import Learner
from metarl.report.learners_plot import (
    OF_TRAINING,
    draw_adaptation,
    draw_success,
    draw_time,
    draw_training,
    return_key,
    rows_of,
    tells_success,
)
from metarl.report.learners_table import notes, what_intervals_are_over
from metarl.report.page.charts import Going, all_looks
from metarl.report.page.content import Content
from metarl.report.page.measures import (
    ends_of_tasks,
    profiles,
    reach_over_tasks,
    task_axis,
    thresholds,
)
from metarl.report.plots import (
    add_band,
    draw_curve,
    drawn,
    figure_of,
    legend_below,
    tell_time,
)
from metarl.report.summary_table import as_csv, latex, markdown


def files(content: Content) -> dict[str, bytes]:
    """Names and contents of all files, charts under the names that the page has for them."""
    found = charts_as_files(figures(content))
    if content.rows:
        rows, against = content.rows, content.against
        over = what_intervals_are_over(content.found)
        tasks = tasks_in_words(content.found["num_tasks"], content.found["split"])
        caption = (
            f"{content.title}: returns on {tasks}. In brackets: 95 % intervals {over}."
            f"{notes(content.found)}"
        )
        texts = {
            "table.tex": latex(rows, against, caption),
            "table.md": f"{caption}\n\n{markdown(rows, against)}\n",
            "table.csv": as_csv(rows, against),
        }
        found |= {name: text.encode() for name, text in texts.items()}
    return found


def charts_as_files(charts: Mapping[str, Figure]) -> dict[str, bytes]:
    """Names and contents of the files of charts, PDF and PNG, under the charts' names."""
    return {
        f"{name}.{kind}": drawn(figure, kind)
        for name, figure in charts.items()
        for kind in ("pdf", "png")
    }


def figures(content: Content) -> dict[str, Figure]:
    """The charts of a report by their names."""
    learners, look = content.learners, all_looks(content.learners, content.going)
    trained = [learner for learner in learners if all(rows_of(learner))]
    timed = [learner for learner in trained if tell_time(rows_of(learner))]
    draw: dict[str, Callable[[Axes], None]] = {}
    if learners:
        draw["adaptation"] = lambda axes: draw_adaptation(axes, content.found, look)
        if tells_success(content.found):
            draw["success"] = lambda axes: draw_success(axes, content.found, look)
    if trained or content.going:

        def over_steps(axes: Axes) -> None:
            draw_training(axes, trained, [], look)
            _draw_going(
                axes, content.going, [look[r.learner or r.name].color for r in content.going]
            )

        draw["training_steps"] = over_steps
    if timed:
        draw["training_time"] = lambda axes: _draw_time_alone(axes, timed, look)
    if learners:
        draw["profiles"] = lambda axes: _draw_profiles(axes, learners, look)
        reach = reach_over_tasks(learners)
        for number, learner in enumerate(learners, start=1):
            color = look[learner.name].color
            of_tasks = partial(_draw_tasks, learner=learner, color=color, reach=reach)
            draw[f"tasks_{number}"] = of_tasks
    return {name: figure_with_legend(content.title, of) for name, of in draw.items()}


def figure_with_legend(title: str, draw: Callable[[Axes], None]) -> Figure:
    """A figure of one panel that `draw` fills; what is in it is named below."""
    with figure_of(title=title) as (figure, (axes,)):
        draw(axes)
        legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def _draw_time_alone(axes: Axes, learners: Sequence[Learner], looks: Mapping[str, Look]) -> None:
    """Beside no panel of steps, whose label would be that of both."""
    draw_time(axes, learners, looks)
    axes.set_ylabel(OF_TRAINING)


def _draw_going(axes: Axes, going: Sequence[Going], colors: Sequence[str]) -> None:
    for run, color in zip(going, colors, strict=True):
        draw_curve(
            axes, [run.rows], return_key([run.rows]), color=color, dashes=":", label=run.name
        )


def _draw_profiles(axes: Axes, learners: Sequence[Learner], looks: Mapping[str, Look]) -> None:
    at = thresholds(learners)
    for learner in learners:
        of, look = profiles(learner, at), looks[learner.name]
        for update, estimates in of.items():
            is_last = update == max(of)
            value, low, high = (
                [estimate[end] for estimate in estimates] for end in ("value", "ci_low", "ci_high")
            )
            label = f"{learner.name}, {stage(learner.unit, update)}"
            axes.plot(at, value, color=look.color, ls=look.dashes if is_last else ":", label=label)
            if is_last:
                add_band(axes, at, low, high, look.color)
    axes.set_xlabel("mean return of a task")
    axes.set_ylabel("share of tasks above it\nwith its 95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _draw_tasks(axes: Axes, learner: Learner, color: str, reach: tuple[float, float]) -> None:
    axis, last = task_axis(learner.runs[0]), learner.returns.shape[2] - 1
    before, after = ends_of_tasks(learner).unbind(1)
    if last > 0:
        axes.vlines(axis.values, before, after, color=color, lw=1, alpha=0.5)
        label = f"{learner.name}, {stage(learner.unit, 0)}"
        (points,) = axes.plot(axis.values, before, color=color, marker="o", ls="none", label=label)
        points.set_markerfacecolor("none")
    label = f"{learner.name}, {stage(learner.unit, last)}"
    axes.plot(axis.values, after, color=color, marker="o", ls="none", label=label)
    if axis.names is not None:
        axes.set_xticks(range(len(axis.names)), axis.names)
    axes.set_xlabel(axis.label)
    axes.set_ylim(*reach)
    axes.set_ylabel("mean return")
