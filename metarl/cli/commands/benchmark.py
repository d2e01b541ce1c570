"""Measures speed on this machine, each thing beside its reference in one interleaved run; prints a
table and JSON lines.

  sim        batched physics and whole collection beside the raw C loop, Gymnasium's
             AsyncVectorEnv, EnvPool
  update     meta-updates of policies beside a plain per-task autograd loop: time and memory
  fewshot    supervised meta-updates beside the same loop, and whether every way to compute them
             gives its numbers
  iteration  the share of a whole training iteration that is not physics; with chunks=[5,10] the
             update of the main job for each of these numbers of tasks at a time (algo.chunk),
             beside the default's, by maml_ppo and maml_trpo
  plan       planning with models beside the bare matrix products that it needs
  seeds      four seeds in one simulation beside the same seeds one after the other
  rates      physics on a GPU by MuJoCo Warp beside its own loop and MuJoCo's C engine
  launches   kernels, copies and waits between two control steps of a training on a GPU, step by step
             and replayed from CUDA graphs
  parity     how far MuJoCo Warp is from MuJoCo's C engine: numbers, not time
  gpu        all that a GPU machine should be asked, in nine minutes; answers are written as they come

Examples:
  python scripts/benchmark.py sim
  python scripts/benchmark.py sim env=half_cheetah_vel envpool_python=/path/to/venv/bin/python
  python scripts/benchmark.py sim -m 'env=glob(ant_*)' collect=false output=speeds.jsonl
  python scripts/benchmark.py update rows=[trpo,ppo]
  python scripts/benchmark.py fewshot rows=[sinusoid1,agreement]
  python scripts/benchmark.py iteration chunks=[2,5,10] rounds=15
"""

import json
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metarl.choices import expected
from metarl.cli import build, origins, outputs
from metarl.cli.benchmarks.chunks import run_chunks
from metarl.cli.benchmarks.collection import collect_rows
from metarl.cli.benchmarks.fewshot import KEYS, run_fewshot
from metarl.cli.benchmarks.gpu import run_gpu
from metarl.cli.benchmarks.iteration import run_iteration
from metarl.cli.benchmarks.plan import run_plan
from metarl.cli.benchmarks.rows import check_keys
from metarl.cli.benchmarks.seeds import ROWS, run_seeds
from metarl.cli.benchmarks.sim import run_sim
from metarl.cli.benchmarks.update import QUICK, run_update
from metarl.cli.main import run_command
from metarl.errors import UserError
from metarl.files import make_folder

ON_A_GPU = ("rates", "launches", "parity", "gpu")
_ROWS = ("rounds", "num_threads", "rows")
_PHYSICS = ("num_worlds", "collect", "vector_envs", "envpool_python")
WORDS = {
    "sim": ("env", "rounds", "num_threads", *_PHYSICS),
    "update": _ROWS,
    "fewshot": _ROWS,
    "iteration": ("rounds", "num_threads", "chunks"),
    "plan": ("rounds", "num_threads"),
    "seeds": _ROWS,
    **dict.fromkeys(("rates", "launches", "parity"), ("env", "device", "toy")),
    "gpu": ("device", "toy"),
}
"""The words that each kind heeds, beside `output`."""


def run(config: DictConfig) -> None:
    if config.what not in WORDS:
        raise UserError(f"what={config.what}: {expected(config.what, WORDS)}")
    _refuse_what_is_not_heeded(config.what)
    output = None if config.output is None else outputs.file_to_append_to(config.output)
    rows: Iterable[dict[str, Any]]
    if config.what in ON_A_GPU:
        rows = _on_a_gpu(config, output)
    elif config.what == "sim":
        name = config.env.name
        rows = run_sim(
            name,
            config.num_worlds,
            config.rounds,
            num_threads=config.num_threads,
            envpool_python=config.envpool_python,
            vector_envs=config.vector_envs,
            extra_rows=collect_rows(name, num_threads=config.num_threads) if config.collect else [],
        )
    elif config.what == "update":
        rows = run_update(config.rows or QUICK, config.rounds, num_threads=config.num_threads)
    elif config.what == "fewshot":
        rows = run_fewshot(config.rows or KEYS, config.rounds, num_threads=config.num_threads)
    elif config.what == "seeds":
        check_keys(config.rows or [], list(ROWS))
        rows = run_seeds(config.rows or list(ROWS), config.rounds, num_threads=config.num_threads)
    elif config.what == "plan":
        rows = run_plan(config.rounds, num_threads=config.num_threads)
    elif config.chunks is not None:
        rows = run_chunks(config.chunks, config.rounds, num_threads=config.num_threads)
    else:
        rows = run_iteration(config.rounds, num_threads=config.num_threads)
    if config.what == "gpu":  # Its answers are written as they come.
        return
    stamp = {"what": config.what, "commit": origins.commit(), "versions": origins.versions()}
    _write((json.dumps(row | stamp) for row in rows), output)


def _write(lines: Iterable[str], output: Path | None) -> None:
    """Prints the lines, or appends each to the file as soon as it is there. Raises: UserError if
    that can't be done, after all of them: what took minutes to measure is told all the same."""
    failure: OSError | None = None
    for line in lines:
        try:
            if output is not None and failure is None:
                make_folder(output.parent)
                with output.open("a") as file:
                    file.write(line + "\n")
                continue
        except OSError as error:
            failure = error
        print(line, flush=True)
    if failure is not None:
        said = failure.strerror or failure
        raise UserError(f"output: can't write {output}: {said}") from failure


def _refuse_what_is_not_heeded(what: str) -> None:
    """Raises: UserError for a word of another kind, or an environment's own settings, as
    `env.horizon=7`; or where two kinds are asked for."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    if sum(word.startswith("what=") for word in given) > 1:
        raise UserError(f"what={what}: expected one kind at a time, got {', '.join(given)}")
    for word in given:
        if word.lstrip("+~").startswith("env."):
            raise UserError(
                f"{word}: benchmarks measure an environment with its own settings; expected "
                "env=<name> alone"
            )
        if (key := word.lstrip("+").partition("=")[0]) not in (*WORDS[what], "what", "output"):
            kinds = ", ".join(kind for kind, words in WORDS.items() if key in words)
            raise UserError(f"{word}: {what} doesn't heed it; expected it with {kinds or 'none'}")


def _on_a_gpu(config: DictConfig, output: Path | None) -> Iterable[dict[str, Any]]:
    """What is about MuJoCo Warp, which not everyone has installed."""
    if find_spec("mujoco_warp") is None:
        raise UserError(f"{config.what} needs MuJoCo Warp: pip install 'metarl[warp]'")
    from metarl.cli.benchmarks.launches import launches
    from metarl.cli.benchmarks.parity import parity
    from metarl.cli.benchmarks.rates import rates

    name, device = config.env.name, build.device(config.device)
    if config.what == "parity":
        sizes = {"num_worlds": 2, "num_steps": 2} if config.toy else {}
        return [parity(name, device=device, **sizes)]
    if config.what == "rates":
        return rates(name, device, toy=config.toy)
    if config.what == "launches":
        return launches(name, device, toy=config.toy)
    if output is None:
        raise UserError("gpu writes its answers as they come; expected output=<file>")
    return run_gpu(device, output.absolute(), toy=config.toy)


def main() -> None:
    sys.argv[1:] = [f"what={word}" if word in WORDS else word for word in sys.argv[1:]]
    run_command("benchmark", run)


if __name__ == "__main__":
    main()
