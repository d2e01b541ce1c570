"""Measures speed on this machine, each thing beside its reference in one interleaved run; prints a
table and JSON lines.

  sim        batched physics and whole collection beside the raw C loop, Gymnasium's
             AsyncVectorEnv, EnvPool
  update     meta-updates of policies beside a plain per-task autograd loop: time and memory
  fewshot    supervised meta-updates beside the same loop, and whether every way to compute them
             gives its numbers
  iteration  the share of a whole training iteration that is not physics
  plan       planning with models beside the bare matrix products that it needs
  seeds      four seeds in one simulation beside the same seeds one after the other

Examples:
  python scripts/benchmark.py sim
  python scripts/benchmark.py sim env=half_cheetah_vel num_worlds=256
  envpool_python=/path/to/venv/bin/python python scripts/benchmark.py sim -m 'env=glob(ant_*)'
  num_worlds=256 collect=false vector_envs=false output=speeds.jsonl python scripts/benchmark.py
  update rows=[trpo,ppo]
  python scripts/benchmark.py fewshot rows=[sinusoid1,agreement]
"""

import json
import sys
from pathlib import Path

from omegaconf import DictConfig

from metarl.cli import build
from metarl.cli.benchmarks.collection import collect_row
from metarl.cli.benchmarks.fewshot import KEYS, run_fewshot
from metarl.cli.benchmarks.iteration import run_iteration
from metarl.cli.benchmarks.plan import run_plan
from metarl.cli.benchmarks.rows import check_keys
from metarl.cli.benchmarks.seeds import ROWS, run_seeds
from metarl.cli.benchmarks.sim import run_sim
from metarl.cli.benchmarks.update import QUICK, run_update
from metarl.cli.main import run_command
from metarl.errors import UserError

KINDS = ("sim", "update", "fewshot", "iteration", "plan", "seeds")


def run(config: DictConfig) -> None:
    if config.what not in KINDS:
        raise UserError(f"what={config.what}: expected one of {', '.join(KINDS)}")
    if config.what == "sim":
        name = config.env.name
        rows = run_sim(
            name,
            config.num_worlds,
            config.rounds,
            num_threads=config.num_threads,
            envpool_python=config.envpool_python,
            vector_envs=config.vector_envs,
            extra_rows=[collect_row(name, num_threads=config.num_threads)]
            if config.collect
            else [],
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
    else:
        rows = run_iteration(config.rounds, num_threads=config.num_threads)
    stamp = {"what": config.what, "commit": build.commit(), "versions": build.versions()}
    lines = [json.dumps(row | stamp) for row in rows]
    if config.output is None:
        print("\n".join(lines))
    else:
        with Path(config.output).open("a") as file:
            file.write("\n".join(lines) + "\n")


def main() -> None:
    sys.argv[1:] = [f"what={word}" if word in KINDS else word for word in sys.argv[1:]]
    run_command("benchmark", run)


if __name__ == "__main__":
    main()
