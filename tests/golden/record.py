"""Writes the numbers that test_golden.py holds the code to, of all cases or those named. A kept
case keeps its configuration.

    python tests/golden/record.py                 # the numbers of all cases
    python tests/golden/record.py maml_ppo grbal  # of these alone
    python tests/golden/record.py --what-follows  # what follows on the kept checkpoints
    python tests/golden/record.py --checkpoints   # the two kept checkpoints too, which are meant to stay as old as they are

Say in the commit by how much each number moved, and why.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from golden import cases  # noqa: E402

from metarl.run import checkpoint  # noqa: E402


def record(name: str, present: dict[str, Any]) -> None:
    """Puts a case's configuration and numbers into `present`; one that is there already keeps its
    configuration. Where it is made with something else than most, it says so itself."""
    config = present["cases"].get(name, {}).get("config") or cases.compose(name)
    case = {"config": config, "numbers": cases.Run(config).numbers()}
    if cases.made_with() != present["made_with"]:
        case["made_with"] = cases.made_with()
    present["cases"][name] = case


def record_checkpoint(kind: str, present: dict[str, Any]) -> None:
    """Writes the state after one iteration, and puts the numbers of what follows into `present`."""
    name = cases.CHECKPOINTS[kind]
    config = present["cases"][name]["config"]
    run = cases.Run(config)
    run.learner.step()
    content = {
        "config": config,
        "iteration": 1,
        "learner": run.learner.state_dict(),
        "generators": run.generators.state_dict(),
    }
    path = checkpoint.save(cases.FOLDER, content, keep=10)
    path.replace(cases.FOLDER / f"{kind}.pt")
    present["checkpoints"][kind] = run.numbers(2)


def record_what_follows(present: dict[str, Any]) -> None:
    for kind in cases.CHECKPOINTS:
        present["checkpoints"][kind] = cases.what_follows(kind)
    say_what_made_them(present)


def say_what_made_them(present: dict[str, Any]) -> None:
    """The numbers of all checkpoints are made with the same; where that is something else than for
    most cases, it is said."""
    present.pop("checkpoints_made_with", None)
    if cases.made_with() != present["made_with"]:
        present["checkpoints_made_with"] = cases.made_with()


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    present = cases.kept() if cases.VALUES.exists() else {"cases": {}, "checkpoints": {}}
    names = [word for word in words if not word.startswith("--")]
    if words == ["--what-follows"]:
        record_what_follows(present)
        cases.write(present)
        return
    if not names:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        present |= {"commit": commit.strip(), "made_with": cases.made_with()}
    for name in names or [*cases.RL, *cases.FEW_SHOT]:
        record(name, present)
    if "--checkpoints" in words:
        for kind in cases.CHECKPOINTS:
            record_checkpoint(kind, present)
        say_what_made_them(present)
    elif not names:  # All are made with the same then.
        record_what_follows(present)
    cases.write(present)


if __name__ == "__main__":
    main(sys.argv[1:])
