"""The evaluation of a trained learner as a user reads it: evaluation.json, a table, a picture."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.files import make_folder, write_text
from metarl.noise import Noise
from metarl.report.facts import facts
from metarl.report.facts import lines as facts_lines
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import Acting, Outcomes, adaptation_curve, held_out_tasks
from metarl.rl.evaluation.proportions import success_summary
from metarl.rl.evaluation.references import reference_outcomes, stand_still_outcomes
from metarl.rl.evaluation.several_runs import over
from metarl.rl.evaluation.statistics import adaptation_gain, summary
from metarl.rl.types import BatchedEnv, RLAdapter, TaskDistribution
from metarl.run.progress import counted
from metarl.run.seeding import Generators
from metarl.struct import map_tensors, replace, struct

MOST_TASKS_SHOWN = 6  # in the table, each apart; evaluation.json has them all


@struct
class Evaluation:
    report: dict[str, Any]  # what evaluation.json holds
    tasks: Any  # the held-out tasks, leaves [N, ...]
    states: list[Any]  # the adapter's state before and after each update


def evaluate(
    adapter: RLAdapter[Any],
    env: BatchedEnv,
    *,
    random_adapter: RLAdapter[Any],
    num_tasks: int,
    num_updates: int,
    unit: str,
    streams: Streams,
    device: torch.device,
    algo: str | None = None,
    deterministic: bool = False,
) -> Evaluation:
    """Adapts to held-out tasks; beside it, on the same tasks, a random initialisation, standing
    still, and what the environment has as references (an oracle, a scripted controller, agents that
    learn by calculation).

    Args:
      env: num_tasks * E worlds.
      algo: the learner's name, for titles.
      unit: what the updates are called, see `metarl.rl.types.Sizes`.
      streams: the random streams of the evaluation; they decide the intervals' resamples, too.
      deterministic: count episodes in which the policy's most likely actions are taken.
    Raises: SettingError if training could have seen one of the tasks, or there aren't as many.
    """
    distribution: TaskDistribution = env.prior
    tasks = held_out_tasks(distribution, num_tasks)
    known = env.references
    plays = 2 * (num_updates + 1) + sum(x is not None for x in (known.stand_still, known.scripted))
    words = f"evaluating on {tasks_in_words(num_tasks, distribution.split)}"
    with counted(words, plays) as advance:
        sizes: dict[str, Any] = {
            "num_tasks": num_tasks,
            "num_updates": num_updates,
            "device": device,
            "on_update": advance,
            "acting": acting(unit, deterministic=deterministic),
        }
        curve = adaptation_curve(adapter, env, tasks, streams, **sizes)
        own = {name: _apart(streams, name) for name in ("random", "still", "references")}
        random_curve = adaptation_curve(random_adapter, env, tasks, own["random"], **sizes)
        still = stand_still_outcomes(env, tasks, own["still"].reset, num_tasks=num_tasks)
        if still is not None:
            advance()
        references = reference_outcomes(
            env,
            tasks,
            own["references"],
            num_tasks=num_tasks,
            num_updates=num_updates,
            on_scripted=advance,
        )
    rows: dict[str, Any] = {
        "random_initialisation": summaries(random_curve.outcomes, streams.tasks)
    }
    others = {"random_initialisation": random_curve.outcomes}
    if still is not None:
        rows["stand_still"] = _summary(still, streams.tasks)
        others["stand_still"] = still
    descriptions = distribution.describe(tasks)
    report = {
        "env": env.spec.name,
        "family": env.spec.family,
        "variant": env.spec.variant,
        **env.spec.hashes,
        "split": distribution.split,
        **({} if algo is None else {"algo": algo}),
        "num_tasks": num_tasks,
        "episodes_per_task": env.num_worlds // num_tasks,
        "num_updates": num_updates,
        "unit": unit,
        "deterministic": deterministic,
        "returns": summaries(curve.outcomes, streams.tasks),
        **rows,
        "diverged_episodes": curve.diverged,
        "env_steps": curve.env_steps,
        "tasks": [
            {
                "task": text,
                "numbers": numbers,
                "returns": returns.mean(-1).tolist(),
                "episodes": returns.tolist(),
                **({} if curve.success is None else {"solved": curve.success[place].tolist()}),
            }
            for place, (text, numbers, returns) in enumerate(
                zip(descriptions, _numbers(tasks), curve.returns, strict=True)
            )
        ],
    }
    if num_updates > 0:
        report["adaptation_gain"] = adaptation_gain(curve.returns, streams.tasks)
    kinds = getattr(distribution, "kinds", None)  # only lists of tasks have some
    kinds_of = kinds(tasks) if callable(kinds) else None
    apart = descriptions if distribution.split == "none" else kinds_of
    if apart and (distribution.split == "none" or len(set(apart)) > 1):
        report["returns_by_task"] = _by_task(apart, curve.outcomes, streams.tasks)
        for task, kind in zip(report["tasks"], apart, strict=True):
            task["kind"] = kind
    report["references"] = {
        name: (summaries if outcomes.returns.ndim == 3 else _summary)(outcomes, streams.tasks)
        for name, outcomes in references.items()
    }
    report |= facts(curve.outcomes, others | references, env, tasks, streams.tasks, unit=unit)
    return Evaluation(report=report, tasks=tasks, states=curve.states)


def _apart(streams: Streams, name: str) -> Streams:
    """Streams of this name that depend on an evaluation's seed alone, not on what was drawn before:
    what every learner is set beside is the same, however long its episodes are."""
    generators = Generators(streams.reset.alone.initial_seed() % 2**63)
    policy = streams.policy
    own = generators(f"{name}/policy", policy.alone.device)
    return replace(
        streams,
        reset=Noise(generators(f"{name}/reset")),
        policy=Noise(own, device=policy.device),
    )


def _numbers(tasks: Any) -> list[dict[str, Any]]:
    """Returns the fields of each task by name: a number, or a list of them."""
    fields = [field.name for field in dataclasses.fields(tasks)]
    columns = [getattr(tasks, name).tolist() for name in fields]
    return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes evaluation.json and adaptation_curve.png. Raises: UserError if the folder can't be
    written to."""
    _write(folder / "evaluation.json", folder / "adaptation_curve.png", report)


def folder_of(place: Path) -> Path:
    """Where `write_beside` writes: above a file x.json, or the place itself."""
    is_file = place.suffix.lower() == ".json" and not place.is_dir()
    return place.parent if is_file else place


def write_beside(place: Path, report: Mapping[str, Any], *, spare: bool) -> Path:
    """Writes a further evaluation, over none that is there; returns its file.

    Args:
      place: a file x.json, with its picture x.png, which is written over; or a folder, where it is
        evaluation_<n>.json and adaptation_curve_<n>.png of the first number that is free.
      spare: whether evaluation.json is left free in a folder, for the training whose folder it is.
    Raises: UserError if it can't be written.
    """
    if folder_of(place) != place:
        return _write(place, place.with_suffix(".png"), report)
    try:
        make_folder(place)
        end = _claimed(place, spare=spare)
    except OSError as error:
        raise UserError(
            f"can't write the evaluation to {place}: {error.strerror or error}"
        ) from error
    return _write(place / f"evaluation{end}.json", place / f"adaptation_curve{end}.png", report)


def _claimed(folder: Path, *, spare: bool) -> str:
    """The end of the first free name, which from now on is taken, also for others who ask at the
    same time."""
    for number in itertools.count(1 if spare else 0):
        end = f"_{number}" if number else ""
        try:
            (folder / f"evaluation{end}.json").open("x").close()
        except FileExistsError:
            continue
        return end
    raise AssertionError("numbers don't end")


def _write(file: Path, picture: Path, report: Mapping[str, Any]) -> Path:
    from metarl.report.adaptation_plot import adaptation_curve_png  # loads Matplotlib

    try:
        make_folder(file.parent)
        write_text(file, json.dumps(report, indent=2))
        adaptation_curve_png(picture, report)
    except OSError as error:
        if file.exists() and file.stat().st_size == 0:
            file.unlink()  # only claimed
        raise UserError(
            f"can't write the evaluation to {file.parent}: {error.strerror or error}"
        ) from error
    return file


def acting(unit: str, *, deterministic: bool) -> Acting:
    """Returns how a learner whose updates are called so acts. One by gradients learns nothing from
    its mode, and goes on adapting on sampled episodes."""
    if not deterministic:
        return "sampled"
    return "mode_beside" if unit == "update" else "mode"


def table(report: Mapping[str, Any]) -> str:
    """The report as text for the console."""
    has_intervals = report["num_tasks"] * report["episodes_per_task"] > 1
    about = f"95 % interval of the IQM, {over(1, report['num_tasks'])}"
    if not has_intervals:
        report, about = _without_intervals(report), "one episode of one task has no interval"
    lines = [
        f"{report['env']} (variant {report['variant']}, spec {report['spec_hash']}), "
        f"{tasks_in_words(report['num_tasks'], report['split'])} x "
        f"{episodes_in_words(report['episodes_per_task'])}"
        if report["split"] != "none"
        else f"{report['env']} (spec {report['spec_hash']}): so few tasks that training and test "
        "tasks are the same",
        f"{'return':>26}  {'mean':>9}  {'IQM':>9}  {about}",
    ]
    unit = report["unit"]
    lines += [table_row(stage(unit, row["update"]), row) for row in report["returns"]]
    lines += lines_beside(report)
    for name, rows in _references(report).items():
        lines += (
            [table_row(name, rows)]
            if isinstance(rows, Mapping)
            else [table_row(f"{name}, {_short('episode', row)}", row) for row in rows]
        )
    lines += lines_apart(report)
    if "adaptation_gain" in report:
        gain = "gain of 1 update" if unit == "update" else "episode 2 - episode 1"
        lines.append(table_row(gain, report["adaptation_gain"]))
    lines += facts_lines(
        report,
        {
            "learner": report.get("algo", "learner"),
            "random_initialisation": "random init",
            "stand_still": "standing still",
        },
    )
    lines += diverged_lines(report)
    lines += ["with the policy's most likely actions"] if report.get("deterministic") else []
    lines += [report["note"]] if "note" in report else []
    return "\n".join(lines)


def lines_apart(report: Mapping[str, Any]) -> list[str]:
    """Lines of each task, or kind of task, where they are said apart and aren't too many."""
    by_task = report.get("returns_by_task", {})
    if len(by_task) > MOST_TASKS_SHOWN:
        return []
    return [
        table_row(
            f"{name}, {_short(report['unit'], row)}",
            _without_intervals(row) if row.get("ci_low") == row.get("ci_high") else row,
        )
        for name, rows in by_task.items()
        for row in rows
    ]


def _without_intervals(tree: Any) -> Any:
    """Resampling a single number gives it again: an interval without width, as if it were known."""
    if isinstance(tree, Mapping):
        kept = {name: of for name, of in tree.items() if name not in ("ci_low", "ci_high")}
        return {name: _without_intervals(of) for name, of in kept.items()}
    return [_without_intervals(of) for of in tree] if isinstance(tree, list) else tree


def diverged_lines(report: Mapping[str, Any]) -> list[str]:
    """The line that says how many episodes broke off; none where none did."""
    count = report.get("diverged_episodes")
    words = (
        "episodes broke off, because the physics blew up or a number wasn't finite; they count with "
        "the rewards before, which may be better than whole ones"
    )
    return [f"{count} {words}"] if count else []


def stage(unit: str, num_updates: int) -> str:
    """What a user calls the state after so many updates; the first episode of a trial comes before
    any."""
    if unit == "episode":
        return f"episode {num_updates + 1}"
    return (
        f"after {num_updates} update{'s' if num_updates > 1 else ''}"
        if num_updates
        else "before adaptation"
    )


def tasks_in_words(num_tasks: int, split: str) -> str:
    """How many tasks an evaluation has, and whether training saw them."""
    tasks = "task" if num_tasks == 1 else "tasks"
    if split == "none":
        return f"{num_tasks} {tasks}, the same as in training"
    return f"{num_tasks} held-out {tasks}"


def episodes_in_words(count: int) -> str:
    return f"{count} episode{'s' if count != 1 else ''}"


def _short(unit: str, row: Mapping[str, Any]) -> str:
    return f"ep. {row['update'] + 1}" if unit == "episode" else f"{row['update']} upd."


def _references(report: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's own references under names to read; reports of earlier versions have
    none."""
    return {name.replace("_", " "): rows for name, rows in report.get("references", {}).items()}


def table_row(name: str, row: Mapping[str, float]) -> str:
    """A line of a table; intervals are there where the row has them."""
    interval = f"[{row['ci_low']:z.2f}, {row['ci_high']:z.2f}]" if "ci_low" in row else ""
    success = f"  success {100 * row['success_rate']:.0f} %" if "success_rate" in row else ""
    if "success_ci_low" in row:
        low, high = (f"{100 * row[f'success_ci_{end}']:.0f}" for end in ("low", "high"))
        success += f" [{low}, {high}]"
    return f"{name:>26}  {row['mean']:z9.2f}  {row['iqm']:z9.2f}  {interval}{success}".rstrip()


def lines_beside(report: Mapping[str, Any]) -> list[str]:
    """The lines of what doesn't learn, as far as the report tells it."""
    lines = [
        table_row(f"random init, {_short(report['unit'], row)}", row)
        for row in report.get("random_initialisation", ())
    ]
    if "stand_still" in report:
        lines.append(table_row("standing still", report["stand_still"]))
    return lines


def _summary(outcomes: Outcomes, generator: torch.Generator) -> dict[str, float]:
    """Sums up the returns and, where the environment says which steps solve the task, success in
    any of an episode's steps."""
    row = summary(outcomes.returns, generator)
    return row if outcomes.success is None else row | success_summary(outcomes.success)


def summaries(outcomes: Outcomes, generator: torch.Generator) -> list[dict[str, float]]:
    """[N, K + 1, E] -> one summary per update."""
    num_rows = outcomes.returns.shape[1]
    return [
        {"update": k, **_summary(_part(outcomes, (slice(None), k)), generator)}
        for k in range(num_rows)
    ]


def _by_task(
    descriptions: list[str], outcomes: Outcomes, generator: torch.Generator
) -> dict[str, list[dict[str, float]]]:
    """Sums up each of the few distinct tasks, or kinds of tasks, apart: a mean over opposite
    directions hides what happens in each."""
    chosen = {
        name: [i for i, d in enumerate(descriptions) if d == name]
        for name in sorted(set(descriptions))
    }
    return {name: summaries(_part(outcomes, rows), generator) for name, rows in chosen.items()}


def _part(outcomes: Outcomes, index: Any) -> Outcomes:
    return map_tensors(lambda leaf: leaf[index], outcomes)
