"""Compares supervised meta-updates with the plain loop over tasks: their speed, their memory, and
whether the numbers agree."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from metarl.cli.benchmarks import few_shot_updates as few_shot
from metarl.cli.benchmarks.rows import Row, Variant, check_keys, run_rows
from metarl.core.adapt import Backend
from metarl.types import Params

ROWS: dict[str, Row] = {}
for _steps in (1, 5):
    _args = (few_shot.sinusoid, _steps)
    ROWS[f"sinusoid{_steps}"] = Row(
        f"sinusoid MAML, {_steps} steps",
        (few_shot.plain, _args),
        (few_shot.written_out, _args),
        8.0,
        num_threads=1,
    )
    ROWS[f"sinusoid{_steps}_compiled"] = Row(
        f"sinusoid MAML, {_steps} steps, compiled",
        (few_shot.plain, _args),
        (few_shot.over_tasks, ("vmap", True, *_args)),
        20.0,
        num_threads=1,
    )
ROWS["omniglot_mlp"] = Row(
    "Omniglot MLP 5w1s",
    (few_shot.plain, (few_shot.omniglot_mlp, False)),
    (few_shot.low_rank, (few_shot.omniglot_mlp, True)),
    3.0,
)
for _key, _name, _bar, _problem in (
    ("conv4", "Conv4 pooled 5w1s, 32 tasks", 1.0, (False, 5, 32, 1)),
    ("conv4_strided", "Conv4 strided 5w1s, 32 tasks", 1.15, (True, 5, 32, 1)),
    ("conv4_20way", "Conv4 pooled 20w1s, 16 tasks, 5 steps", 1.15, (False, 20, 16, 5)),
):
    ROWS[_key] = Row(
        _name,
        (few_shot.plain, (few_shot.conv4, False, *_problem)),
        (few_shot.over_tasks, ("auto", False, few_shot.conv4, True, *_problem)),
        _bar,
        2.0,
    )

ERROR_BAR = 1e-12
"""The largest relative error that a meta-gradient may have in float64, against the plain loop's."""

_SINUSOID, _PERCEPTRON = (few_shot.sinusoid, 5), (few_shot.omniglot_mlp, True)
_POOLED, _STRIDED = (False, 5, 4, 1), (True, 5, 4, 1)


def _conv4(backend: Backend, problem: tuple[Any, ...]) -> tuple[tuple[Any, ...], Variant]:
    return (few_shot.conv4, False, *problem), (
        few_shot.over_tasks,
        (backend, False, few_shot.conv4, True, *problem),
    )


AGREEMENT: dict[str, tuple[tuple[Any, ...], Variant]] = {
    "sinusoid, 5 steps: loop": (_SINUSOID, (few_shot.over_tasks, ("loop", False, *_SINUSOID))),
    "sinusoid, 5 steps: threads": (
        _SINUSOID,
        (few_shot.over_tasks, ("threads", False, *_SINUSOID)),
    ),
    "sinusoid, 5 steps: vmap": (_SINUSOID, (few_shot.over_tasks, ("vmap", False, *_SINUSOID))),
    "sinusoid, 5 steps: vmap compiled": (
        _SINUSOID,
        (few_shot.over_tasks, ("vmap", True, *_SINUSOID)),
    ),
    "sinusoid, 5 steps: written-out derivatives": (_SINUSOID, (few_shot.written_out, _SINUSOID)),
    "Omniglot MLP: vmap": (_PERCEPTRON, (few_shot.over_tasks, ("vmap", False, *_PERCEPTRON))),
    "Omniglot MLP: low-rank layers": (_PERCEPTRON, (few_shot.low_rank, _PERCEPTRON)),
    "Conv4 pooled: threads": _conv4("threads", _POOLED),
    "Conv4 pooled: vmap": _conv4("vmap", _POOLED),
    "Conv4 strided: threads": _conv4("threads", _STRIDED),
    "Conv4 strided: vmap": _conv4("vmap", _STRIDED),
}
"""Name -> the plain loop's problem, and the back-end that is held to it: on the same one, Conv-4 by
`metarl.nn`'s layers."""

KEYS = (*ROWS, "agreement")


def run_fewshot(
    keys: Sequence[str] = KEYS, rounds: int = 5, *, num_threads: int | None = None
) -> list[dict[str, Any]]:
    """Rows as `run_rows` measures them, and with the key `agreement` one for each back-end's
    relative error in float64.

    All of them take about five minutes: the compiled ones compile for half a minute each, pooled
    Conv4 is slow.

    Raises: UserError for keys that aren't in KEYS.
    """
    check_keys(keys, KEYS)
    timed = [key for key in keys if key != "agreement"]
    results = run_rows(ROWS, timed, rounds, num_threads=num_threads) if timed else []
    return results + (agreement() if "agreement" in keys else [])


def agreement(names: Sequence[str] = tuple(AGREEMENT)) -> list[dict[str, Any]]:
    """‖g − g'‖ / ‖g'‖ of meta-gradients: g of each back-end, g' of the plain loop, both in
    float64."""
    print(f"{'meta-gradient against the plain loop, float64':56}{'error':>9}{'bar':>8}")
    results = []
    with _float64():
        for name in names:
            problem, (make, args) = AGREEMENT[name]
            error = relative_error(make(*args)(), few_shot.plain(*problem)())
            reached = error <= ERROR_BAR
            results.append(
                {
                    "row": "agreement",
                    "name": name,
                    "error": error,
                    "error_bar": ERROR_BAR,
                    "reached": reached,
                }
            )
            print(
                f"{name:56}{error:9.1e}{ERROR_BAR:8.0e}  {'met' if reached else 'not met'}",
                flush=True,
            )
    return results


def relative_error(found: Mapping[str, torch.Tensor], expected: Params) -> float:
    """Returns ‖found − expected‖ / ‖expected‖ over all parameters together. Raises: ValueError if
    their names differ."""
    if found.keys() != expected.keys():
        raise ValueError(f"parameters {sorted(found)} against {sorted(expected)}")
    norm = lambda leaves: sum(leaf.detach().square().sum() for leaf in leaves).sqrt()
    return (
        norm(found[name] - leaf for name, leaf in expected.items()) / norm(expected.values())
    ).item()


@contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
