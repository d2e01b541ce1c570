"""The numbers of several learners side by side, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metarl.report.evaluation import episodes_in_words, stage, tasks_in_words
from metarl.report.markdown import table
from metarl.report.summary_table import decimals_of, seeds_in_words
from metarl.run.shown import human

Numbers = Mapping[str, Any]


def tables(found: Numbers) -> str:
    """Args: found: what `learners.side_by_side` returns."""
    return "\n\n".join(filter(None, [_learners(found), _by_seed(found), _beside(found)])) + "\n"


def _learners(found: Numbers) -> str:
    learners, digits = found["learners"], _decimals(found)
    num_rows = max(len(learner["returns"]) for learner in learners)
    stages = [_stage(learners, update) for update in range(num_rows)]
    extras = [key for key in ("success", "normalised", "made_worse") if _has(learners, key)]
    head = ["learner", "seeds", "steps", *stages, *(_EXTRAS[key][0] for key in extras)]
    rows = []
    for learner in learners:
        cells = [_interval(row["mean"], digits) for row in learner["returns"]]
        cells += [""] * (num_rows - len(cells))
        steps = [steps for steps in learner["env_steps"] if steps is not None]
        of_training = [seeds_in_words(learner["seeds"]), _range(steps)]
        rows.append(
            [learner["name"], *of_training, *cells, *(_EXTRAS[key][1](learner) for key in extras)]
        )
    caption = (
        f"{found['env']}, {tasks_in_words(found['num_tasks'], found['split'])}: mean return, "
        f"with 95 % intervals {what_intervals_are_over(found)}."
    )
    caption += notes(found)
    if "normalised" in extras:
        caption += " Score: 0 for standing still, 1 for the best that can be had, if it is known."
    return f"{caption}\n\n{table(head, rows)}"


def notes(found: Numbers) -> str:
    """What must be known of learners that are compared, as sentences, each after a space."""
    of = (
        *(_what_an_update_sees, _how_they_played, _what_diverged, _who_trained_longer),
        _whether_worlds_are_alike,
    )
    return "".join(notes(found) for notes in of)


def _what_an_update_sees(found: Numbers) -> str:
    """Says how many episodes of its task, which is what adaptation costs; nothing of learners
    without updates."""
    of: dict[int, list[str]] = {}
    for learner in found["learners"]:
        if learner["episodes_per_update"] is not None:
            of.setdefault(learner["episodes_per_update"], []).append(learner["name"])
    if not of:
        return ""
    words = [
        episodes_in_words(count) + (f" ({', '.join(names)})" if len(of) > 1 else "")
        for count, names in of.items()
    ]
    told = f" An update sees {' or '.join(words)} of its task."
    without = [
        each["name"]
        for each in found["learners"]
        if each["episodes_per_update"] is None and len(each["returns"]) > 1
    ]
    if without and max(of) > 1:
        told += (
            f" Of {'; '.join(without)} each column is one episode further: unlike amounts of data."
        )
    return told


def _how_they_played(found: Numbers) -> str:
    """Says what evaluations were asked to do otherwise than training does, and of which learners;
    nothing where they weren't."""
    of: dict[str, list[str]] = {}
    for learner in found["learners"]:
        for word, value in learner["played"].items():
            of.setdefault(_PLAYED[word].format(value), []).append(learner["name"])
    whole = len(found["learners"])
    return "".join(
        f" {words}{'' if len(names) == whole else ', ' + ', '.join(names) + ' alone'}."
        for words, names in of.items()
    )


_PLAYED = {
    "deterministic": "Played with the policy's most likely actions",
    "inner_lr_decay": "Adapted with {} times the rate from the second update on",
    "context_size": "Tasks inferred from {} steps",
}


def _what_diverged(found: Numbers) -> str:
    """Says how many episodes broke off, which can be to the good of a return; nothing where none
    did."""
    return "".join(
        f" {one['diverged_episodes']} of {one['episodes']} episodes of {one['name']} broke off, "
        "because the physics blew up or a number wasn't finite; they count with the rewards before."
        for one in found["learners"]
        if one["diverged_episodes"]
    )


def _who_trained_longer(found: Numbers) -> str:
    """Names learners whose seeds are no runs of one length: one was stopped, or went on."""
    texts = []
    for one in found["learners"]:
        steps = [steps for steps in one["env_steps"] if steps is not None]
        # Where episodes end early seeds differ a little.
        if steps and max(steps) > _ALIKE * min(steps):
            texts.append(f" The seeds of {one['name']} trained for {_range(steps)} steps.")
    return "".join(texts)


def _whether_worlds_are_alike(found: Numbers) -> str:
    """Says whether a user's environment was of other code, or another model, in some runs."""
    of = {one["name"]: one["made_by"] for one in found["learners"] if "made_by" in one}
    if len({made_by for each in of.values() for made_by in each}) < 2:
        return ""
    told = "; ".join(f"{name}: {', '.join(each)}" for name, each in of.items())
    return (
        f" The code or the model of {found['env']} wasn't the same in all evaluations ({told}), so "
        "returns needn't compare."
    )


_ALIKE = 1.5


def what_intervals_are_over(found: Numbers) -> str:
    """Says it of each learner, once where they are alike."""
    return "; ".join(dict.fromkeys(one["returns"][0]["over"] for one in found["learners"]))


def _stage(learners: Sequence[Numbers], update: int) -> str:
    """What users of these learners call the state after so many updates."""
    units = [learner["unit"] for learner in learners if update < len(learner["returns"])]
    return ", or ".join(stage(unit, update) for unit in dict.fromkeys(units))


def _success(learner: Numbers) -> str:
    of = [row["success"] for row in learner["returns"] if "success" in row]
    return ", ".join(_share(row) if "ci_low" in row else _percent(row["value"]) for row in of)


def _normalised(learner: Numbers) -> str:
    row = learner["returns"][-1].get("normalised")
    return f"{row['value']:z.2f} [{row['ci_low']:z.2f}, {row['ci_high']:z.2f}]" if row else ""


def _made_worse(learner: Numbers) -> str:
    return ", ".join(map(_share, learner["made_worse"]))


def _share(row: Mapping[str, float]) -> str:
    return f"{_percent(row['value'])} [{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]"


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


_EXTRAS = {
    "success": ("solved", _success),
    "normalised": ("score in the end", _normalised),
    "made_worse": ("tasks made worse by each update", _made_worse),
}


def _has(learners: Sequence[Numbers], key: str) -> bool:
    return any(learner.get(key) or key in learner["returns"][0] for learner in learners)


def _by_seed(found: Numbers) -> str:
    """The means of each seed, where a learner has several."""
    rows, digits = list[list[str]](), _decimals(found)
    for learner in found["learners"]:
        for number, seed in enumerate(learner["seeds"]):
            means = [f"{row['by_seed'][number]:z.{digits}f}" for row in learner["returns"]]
            rows.append([learner["name"], str(seed), ", ".join(means)])
    if len(rows) == len(found["learners"]):
        return ""
    return table(["learner", "seed", "mean return before, and after each update or episode"], rows)


def _beside(found: Numbers) -> str:
    head = ["beside them", "mean return, after each update where it differs"]
    return table(head, beside_rows(found))


def beside_rows(found: Numbers) -> list[list[str]]:
    """What doesn't learn: names, and mean returns in words."""
    beside, rows, digits = found["beside"], list[list[str]](), _decimals(found)
    success = dict(_who_is_beside(beside.get("success", {})))
    for name, means in _who_is_beside(beside):
        numbers = _numbers(means, digits)
        if name in success:
            numbers += f"; solved {', '.join(map(_percent, success[name]))}"
        rows.append([name, numbers])
    for bound in beside.get("fixed_speeds", {}).get("bounds", []):
        count, allowance = bound["num_speeds"], beside["fixed_speeds"]["allowance"]
        name = f"the best {f'{count} ' if count > 1 else ''}fixed speed{'s' if count > 1 else ''}"
        name += ", at no cost"
        values = [bound["mean"]]
        if allowance:
            name += f"; less {allowance:g} ({beside['fixed_speeds']['allowance_is']})"
            values.append(bound["mean_with_allowance"])
        rows.append([name, "; ".join(f"{value:z.{digits}f}" for value in values)])
    return rows


def _who_is_beside(beside: Numbers) -> Iterator[tuple[str, list[float]]]:
    """Names in words, and what each has after each update, or once for all."""
    for name, means in beside.get("random_initialisation", {}).items():
        yield f"random initialisation, adapted as {name}", means
    if "stand_still" in beside:
        yield "standing still", [beside["stand_still"]]
    for name, means in beside.get("references", {}).items():
        yield name.replace("_", " "), means


def _decimals(found: Numbers) -> int:
    rows = [row for learner in found["learners"] for row in learner["returns"]]
    return decimals_of(row["mean"]["value"] for row in rows)


def _interval(estimate: Mapping[str, float], digits: int) -> str:
    value, low, high = (f"{estimate[end]:z.{digits}f}" for end in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"


def _numbers(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{value:z.{digits}f}" for value in values)


def _range(counts: Sequence[int]) -> str:
    """The one count that all have, or the least and the most of several."""
    ends = [human(of(counts)) for of in (min, max)] if counts else []
    return " to ".join(dict.fromkeys(ends))
