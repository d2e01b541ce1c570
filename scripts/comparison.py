"""What a sweep of few-shot runs ends with: a table that sets them side by side, on the console and in the sweep's folder.

Runs of a sweep may be in processes or machines of their own, so each leaves a line with its folder in the sweep's; when all
are done, Hydra calls back here.
"""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from metarl.files import write_text
from metarl.run import fewshot_report

_RUNS = "runs.txt"


def note(folder: Path) -> None:
    """Called by a run that is done: if it is one of a sweep, the sweep will compare it."""
    config = HydraConfig.get()
    if config.mode == RunMode.MULTIRUN:
        sweep = Path(config.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        with (sweep / _RUNS).open("a") as file:
            file.write(f"{folder.resolve()}\n")


def overrides() -> list[str]:
    """What this run was called with."""
    return [word for word in HydraConfig.get().overrides.task if not word.startswith("run_dir=")]


class Comparison(Callback):
    """Named in configs/fewshot.yaml; Hydra makes it and calls it."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.sweep.dir)
        if not (sweep / _RUNS).exists():
            return
        folders = (sweep / _RUNS).read_text().splitlines()
        reports = [json.loads((Path(folder) / "evaluation.json").read_text()) for folder in folders]
        text = fewshot_report.comparison(reports)
        write_text(sweep / "comparison.md", text + "\n")
        print(text)
        print(f"written to {sweep / 'comparison.md'}", file=sys.stderr)
