"""The numbers of several learners side by side, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.report.evaluation import stage
from metarl.report.markdown import table
from metarl.report.summary_table import seeds_in_words
from metarl.run.logging import human

Numbers = Mapping[str, Any]


def tables(found: Numbers) -> str:
    """Args: found: what `learners.side_by_side` returns."""
    return "\n\n".join(filter(None, [_learners(found), _by_seed(found), _beside(found)])) + "\n"


def _learners(found: Numbers) -> str:
    learners = found["learners"]
    num_rows = max(len(learner["returns"]) for learner in learners)
    stages = [_stage(learners, update) for update in range(num_rows)]
    extras = [key for key in ("success", "normalised", "made_worse") if _has(learners, key)]
    head = ["learner", "seeds", "steps", *stages, *(_EXTRAS[key][0] for key in extras)]
    rows = []
    for learner in learners:
        cells = [_interval(row["mean"]) for row in learner["returns"]]
        cells += [""] * (num_rows - len(cells))
        steps = [steps for steps in learner["env_steps"] if steps is not None]
        of_training = [seeds_in_words(learner["seeds"]), _range([human(count) for count in steps])]
        rows.append(
            [learner["name"], *of_training, *cells, *(_EXTRAS[key][1](learner) for key in extras)]
        )
    tasks = "held-out tasks" if found["split"] != "none" else "tasks, the same as in training"
    caption = (
        f"{found['env']}, {found['num_tasks']} {tasks}: mean return, "
        f"with 95 % intervals {what_intervals_are_over(found)}."
    )
    caption += what_an_update_sees(found)
    if "normalised" in extras:
        caption += " Score: 0 for standing still, 1 for the best that can be had, if it is known."
    return f"{caption}\n\n{table(head, rows)}"


def what_an_update_sees(found: Numbers) -> str:
    """Says how many episodes of its task, which is what adaptation costs; nothing of learners
    without updates."""
    of: dict[int, list[str]] = {}
    for learner in found["learners"]:
        if learner["episodes_per_update"] is not None:
            of.setdefault(learner["episodes_per_update"], []).append(learner["name"])
    if not of:
        return ""
    words = [
        f"{count} episode{'s' if count > 1 else ''}"
        + (f" ({', '.join(names)})" if len(of) > 1 else "")
        for count, names in of.items()
    ]
    return f" An update sees {' or '.join(words)} of its task."


def what_intervals_are_over(found: Numbers) -> str:
    """Says it of each learner, once where they are alike."""
    return "; ".join(dict.fromkeys(one["returns"][0]["over"] for one in found["learners"]))


def _stage(learners: Sequence[Numbers], update: int) -> str:
    """What users of these learners call the state after so many updates."""
    units = [learner["unit"] for learner in learners if update < len(learner["returns"])]
    return ", or ".join(stage(unit, update) for unit in dict.fromkeys(units))


def _success(learner: Numbers) -> str:
    return ", ".join(f"{100 * rate:.0f} %" for rate in learner.get("success", []))


def _normalised(learner: Numbers) -> str:
    row = learner["returns"][-1].get("normalised")
    return f"{row['value']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if row else ""


def _made_worse(learner: Numbers) -> str:
    shares = [
        f"{100 * row['value']:.0f} % [{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]"
        for row in learner["made_worse"]
    ]
    return ", ".join(shares)


_EXTRAS = {
    "success": ("solved", _success),
    "normalised": ("score in the end", _normalised),
    "made_worse": ("tasks made worse by each update", _made_worse),
}


def _has(learners: Sequence[Numbers], key: str) -> bool:
    return any(learner.get(key) or key in learner["returns"][0] for learner in learners)


def _by_seed(found: Numbers) -> str:
    """The means of each seed, where a learner has several."""
    rows = []
    for learner in found["learners"]:
        for number, seed in enumerate(learner["seeds"]):
            means = [f"{row['by_seed'][number]:.1f}" for row in learner["returns"]]
            rows.append([learner["name"], str(seed), ", ".join(means)])
    if len(rows) == len(found["learners"]):
        return ""
    return table(["learner", "seed", "mean return before, and after each update or episode"], rows)


def _beside(found: Numbers) -> str:
    head = ["beside them", "mean return, after each update where it differs"]
    return table(head, beside_rows(found))


def beside_rows(found: Numbers) -> list[list[str]]:
    """What doesn't learn: names, and mean returns in words."""
    beside, rows = found["beside"], list[list[str]]()
    for name, means in beside["random_initialisation"].items():
        rows.append([f"random initialisation, adapted as {name}", _numbers(means)])
    if "stand_still" in beside:
        rows.append(["standing still", _numbers([beside["stand_still"]])])
    for name, means in beside["references"].items():
        rows.append([name.replace("_", " "), _numbers(means)])
    for bound in beside.get("fixed_speeds", {}).get("bounds", []):
        count, allowance = bound["num_speeds"], beside["fixed_speeds"]["allowance"]
        name = f"the best {f'{count} ' if count > 1 else ''}fixed speed{'s' if count > 1 else ''}"
        name += ", at no cost"
        values = [bound["mean"]]
        if allowance:
            name += f"; less {allowance:g} ({beside['fixed_speeds']['allowance_is']})"
            values.append(bound["mean_with_allowance"])
        rows.append([name, "; ".join(f"{value:.1f}" for value in values)])
    return rows


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.1f} [{estimate['ci_low']:.1f}, {estimate['ci_high']:.1f}]"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _range(values: Sequence[str]) -> str:
    """The one value that all have, or the first and the last of several."""
    return " to ".join(dict.fromkeys([values[0], values[-1]])) if values else ""
