"""Everything that a GPU machine should be asked, in at most nine minutes a call.

Each question is a process of its own with a time limit, in order of value; its answer is written
as it comes. So what was measured is there, whatever comes after it, and a further call goes on with
what has no answer yet.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metarl.cli import origins
from metarl.files import make_folder, write_text
from metarl.run.rows import read_rows

SECONDS = 540
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One process: `python words ...`."""

    name: str
    words: tuple[str, ...]
    limit: int  # s
    run: Path | None = None
    """The run folder that it leaves, if it is a training."""
    answers: Path | None = None
    """The file with JSON lines that it leaves, if it is a benchmark."""


def run_gpu(device: torch.device, output: Path, *, toy: bool = False) -> list[dict[str, Any]]:
    """Asks all questions and appends a JSON line for each answer, error or timeout to `output`. What
    has its whole answer there, of this commit and this kind of device, isn't asked again.

    Args: toy: with a few worlds and steps, to try where there is no GPU.
    """
    rows, deadline = [], time.monotonic() + SECONDS
    text = output.read_text("utf-8") if output.exists() else ""
    of: dict[str, Any] = {"commit": origins.commit(), "on": _name_of(device)}
    known = _answered(text, of)
    make_folder(output.parent)
    with tempfile.TemporaryDirectory() as folder:
        for question in questions(device, Path(folder), toy=toy):
            if question.name in known:
                print(f"{question.name}: answered in {output} before", file=sys.stderr)
                continue
            left = deadline - time.monotonic()
            for answer in _asked(question, left):
                row = answer | of
                rows.append(row)
                print(json.dumps(row), flush=True)
                text += json.dumps(row) + "\n"
                write_text(output, text)
    return rows


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _answered(text: str, of: Mapping[str, Any]) -> set[str]:
    """The names of the questions that have rows like `of`, and none of these with an error."""
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    alike = [row for row in rows if all(row.get(key) == value for key, value in of.items())]
    # Of one that was asked again, the last answer counts, which may have several rows.
    ends = {row["question"]: "error" in row for row in alike if "question" in row}
    return {name for name, failed in ends.items() if not failed}


def questions(device: torch.device, folder: Path, *, toy: bool) -> Iterator[Question]:
    """Yields the questions in order of value."""

    def measured(what: str, env: str, limit: int) -> Question:
        answers = folder / f"{what}-{env}.jsonl"
        words = [what, f"env={env}", f"device={device}", f"output={answers}", *(["toy=true"] * toy)]
        return Question(
            name=f"{what} {env}",
            words=("scripts/benchmark.py", *words),
            limit=limit,
            answers=answers,
        )

    def trained(name: str, limit: int, *words: str, algo: str = "maml_ppo") -> Question:
        run = folder / name.replace(" ", "_")
        small = ("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=2")
        return Question(
            name=name,
            words=(
                *("scripts/train.py", "env=half_cheetah_vel", f"algo={algo}", "iterations=3"),
                *("evaluation.num_tasks=1", "evaluation.num_updates=0", "evaluation.video=false"),
                *("evaluation.episodes_per_task=1", f"device={device}", f"run_dir={run}"),
                *(small * toy),
                *words,
            ),
            limit=limit,
            run=run,
        )

    large = () if toy else ("algo.meta_batch_size=100", "algo.episodes_per_task=80")
    yield measured("parity", "half_cheetah_vel", 190)  # It compiles what all others need, too.
    if not toy:
        yield _tests("tests marked gpu", f"not ({_OTHER_ROBOTS})", 110)
    yield measured("rates", "half_cheetah_vel", 55)
    first = trained("train sim=warp", 55, "sim=warp")
    yield first
    yield trained("train sim=cpu", 40, "sim=cpu")
    yield trained("train sim=warp 8 seeds", 55, "sim=warp", f"num_seeds={2 if toy else 8}")
    yield trained("train sim=warp 8000 worlds", 55, "sim=warp", *large)
    again = ("scripts/train.py", f"resume={first.run}", "iterations=5")
    yield replace(first, name=f"{first.name}, resumed", words=again)
    for algo in ("rl2_ppo", "varibad"):
        yield trained(f"train {algo} sim=warp", 55, "sim=warp", algo=algo)
    yield measured("launches", "half_cheetah_vel", 45)
    yield trained("train sim=warp without graphs", 45, "sim=warp", "sim.graphs=false")
    if toy:
        return
    for algo in ("rl2_ppo", "varibad", "memoryless_ppo", "rl2_offpolicy"):
        yield trained(f"train {algo}", 45, "sim=cpu", algo=algo)
    few = ("env.num_train_tasks=16", "algo.initial_steps=400", "algo.updates_per_iteration=200")
    yield trained("train pearl", 60, "sim=cpu", *few, algo="pearl")
    yield from _few_shot(device, folder)
    yield _by_torchrun(trained("train by torchrun", 60, "sim=cpu"))
    # Their kernels take minutes to compile, each robot's its own.
    yield _tests("tests marked gpu, other robots", _OTHER_ROBOTS, 240)
    for env in ("ant_vel", "arm_grasp", "humanoid_dir"):
        yield measured("parity", env, 120)
        yield measured("rates", env, 60)
        yield measured("launches", env, 45)


def _few_shot(device: torch.device, folder: Path) -> Iterator[Question]:
    """Second-order gradients, batch norm on a GPU, and a run that goes on there."""
    for name, words in {
        "maml": ("learner=maml", "backbone=conv4_strided"),
        "protonet": ("learner=protonet", "backbone=conv4_strided"),
    }.items():
        run = folder / f"few_shot_{name}"
        small = ("iterations=5", "evaluation.num_tasks=20", "evaluation.pictures=false")
        first = ("dataset=digits", *words, *small, f"device={device}", f"run_dir={run}")
        yield Question(
            name=f"few-shot {name}", words=("scripts/fewshot.py", *first), limit=45, run=run
        )
        again = (f"resume={run}", "iterations=8")
        yield Question(
            name=f"few-shot {name}, resumed",
            words=("scripts/fewshot.py", *again),
            limit=45,
            run=run,
        )


def _by_torchrun(question: Question) -> Question:
    """The same by one process that speaks to itself through NCCL."""
    words = ("-m", "torch.distributed.run", "--nproc-per-node=1", *question.words)
    return replace(question, words=words)


_OTHER_ROBOTS = "hopper or ant or arm"
"""The cases of robots whose kernels no question before has compiled, in pytest's words."""


def _tests(name: str, which: str, limit: int) -> Question:
    words = ("-m", "pytest", "-v", "-m", "gpu", "-k", which, "-p", "no:cacheprovider")
    return Question(name=name, words=(*words, *_tests_on_a_gpu()), limit=limit)


def _tests_on_a_gpu() -> list[str]:
    """The files that have any: to collect all others takes longer than these tests."""
    files = (_ROOT / "tests").rglob("test_*.py")
    return sorted(str(file) for file in files if "mark.gpu" in file.read_text("utf-8"))


def _asked(question: Question, left: float) -> list[dict[str, Any]]:
    """The rows of an answer, or one that says why there is none."""
    head: dict[str, Any] = {"question": question.name}
    if left <= 0:
        return [{**head, "error": "no time left"}]
    begin, limit = time.monotonic(), min(question.limit, left)
    command = [sys.executable, *question.words]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
    # Its own session, so that what it has started ends with it.
    with subprocess.Popen(
        command, cwd=_ROOT, text=True, start_new_session=True, **pipes
    ) as process:
        try:
            said, aside = process.communicate(timeout=limit)
            error = "" if process.returncode == 0 else (aside or said)[-2000:]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            heard = "".join(process.communicate())
            error, said, aside = f"not done in {limit:.0f} s; it had said: {heard[-2000:]}", "", ""
    if not error and aside:
        head["aside"] = aside[-1000:]  # For instance why graphs weren't recorded.
    head["seconds"] = round(time.monotonic() - begin, 1)
    found: list[dict[str, Any]] = []
    if question.answers is not None and question.answers.exists():
        found = [json.loads(line) for line in question.answers.read_text("utf-8").splitlines()]
    elif question.run is not None:
        # Of several seeds each has a folder of its own; their steps a second are of all together.
        files = sorted(question.run.rglob("metrics.jsonl"))[:1]
        found = [row for file in files for row in read_rows(file)[-1:]]
    elif not error:
        found = [{"said": said[-300:]}]
    rows = [{**row, **head} for row in found]
    return [*rows, {**head, "error": error}] if error else rows
