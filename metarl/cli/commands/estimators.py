"""Measures what estimators of the meta-gradient are worth: bias, variance and cosine beside the
exact one of a small MDP.

All trajectories of a random tabular MDP are listed, so the exact meta-gradient of one and two
updates is a sum, and no opinion. docs/estimators.md says what is measured, and what comes out.

Examples:
  python scripts/estimators.py
  python scripts/estimators.py inner_lr=0.3 num_estimates=200000 output=lab
"""

import sys

import torch
from omegaconf import DictConfig

from metarl.cli import outputs
from metarl.cli.main import run_command
from metarl.errors import UserError
from metarl.files import make_folder, write_text
from metarl.report.estimator_plot import estimators_png
from metarl.rl.enumerated import random_mdp
from metarl.rl.meta_gradient_estimators import (
    ESTIMATORS,
    Measured,
    errors_of_means,
    estimates,
    exact_meta_gradient,
    measure,
)

SMALLEST = 1e-9
"""The exact meta-gradient's norm below which it is rounding."""

SIZES = [4**k for k in range(8)]


def run(config: DictConfig) -> None:
    folder = None if config.output is None else outputs.folder(config.output)
    generator = torch.Generator().manual_seed(config.seed)
    mdp = random_mdp(config.num_states, config.num_actions, config.horizon, generator)
    logits = torch.randn(
        config.num_states, config.num_actions, dtype=torch.float64, generator=generator
    )
    sizes = [size for size in SIZES if 4 * size <= config.num_estimates] or [1]
    settings = f"{config.num_states} states, {config.num_actions} actions, {config.horizon} steps"
    settings += f", seed {config.seed}"
    intro = INTRO.format(settings=settings, lr=config.inner_lr, num=config.num_estimates)
    num_rows = 2 * sum(map(len, ESTIMATORS.values()))
    lines, panels = [intro, HEAD], {}
    for objective, names in ESTIMATORS.items():
        for num_updates in (1, 2):
            of = {"inner_lr": config.inner_lr, "num_updates": num_updates}
            exact, errors = exact_meta_gradient(mdp, logits, objective, **of), {}
            if not exact.norm() > SMALLEST:
                raise UserError(
                    f"inner_lr={config.inner_lr}: such steps leave a policy without chance, whose "
                    f"exact meta-gradient is {exact.norm():.1g}, and no error is a share of that; "
                    "expected a smaller inner_lr"
                )
            for name in names:
                row = f"{objective} updates, K = {num_updates}, {name}"
                print(f"{len(lines) - 1}/{num_rows} {row}", file=sys.stderr)
                counts = {"num_estimates": config.num_estimates, "generator": generator}
                found = estimates(name, mdp, logits, objective, **of, **counts)
                lines.append(_row(objective, num_updates, name, measure(found, exact)))
                errors[name] = errors_of_means(found, exact, sizes)
            panels[f"{objective} updates, K = {num_updates}"] = errors
    table = "\n".join(lines)
    print(table)
    if folder is not None:
        make_folder(folder)
        write_text(folder / "estimators.md", table + "\n")
        estimators_png(folder / "estimators.png", panels, sizes)
        print(f"written to {folder}", file=sys.stderr)


INTRO = """\
The exact meta-gradient of a random MDP ({settings}), after K updates of rate {lr:g}, and {num}
independent estimates of it by each estimator. Updates follow sampled episodes, or the expected
gradient. In shares of the exact one's norm: the bias of the mean, what that would be by chance
without any bias, how many standard errors the mean's farthest coordinate is off (above 4 isn't
chance), and the deviation of an estimate; then the cosine of the mean with the exact one, and of one
estimate. docs/estimators.md explains them.
"""

HEAD = """\
| updates | K | estimator | bias | by chance | farthest | deviation | cosine of the mean | of one |
|---|---|---|---|---|---|---|---|---|"""


def _row(objective: str, num_updates: int, name: str, of: Measured) -> str:
    shares = f"{of.bias:.3f} | {of.bias_error:.3f} | {of.farthest:.1f} | {of.deviation:.2f}"
    cosines = f"{of.cosine:.4f} | {of.single_cosine:.3f}"
    return f"| {objective} | {num_updates} | `{name}` | {shares} | {cosines} |"


def main() -> None:
    run_command("estimators", run)


if __name__ == "__main__":
    main()
