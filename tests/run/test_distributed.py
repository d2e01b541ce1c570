"""Several processes that share a run have the numbers of one, and what happens when one is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import one_of_two
from support.commands import call

from metarl.cli.commands import evaluate, train
from metarl.errors import UserError
from metarl.run import checkpoint, distributed
from metarl.run.rows import read_rows
from metarl.types import ALONE

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env=point_navigation_2d", "env.horizon=10", "device=cpu", "algo.num_epochs=1"),
    *("algo.meta_batch_size=2", "algo.episodes_per_task=2", "algo.num_inner_steps=1"),
    *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=1"),
    *("evaluation.video=false", "checkpoint_every=2"),
]


def two_processes(*words):
    """As torchrun starts them on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | job | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("ranks") / "found"
    for process in two_processes(one_of_two.__file__, out):
        assert process.communicate(timeout=600)[1] == "" and process.returncode == 0
    return [torch.load(f"{out}{rank}") for rank in range(2)]


def leaves(tree, name=""):
    if isinstance(tree, dict):
        return [x for key, value in tree.items() for x in leaves(value, f"{name}.{key}")]
    if isinstance(tree, list | tuple):
        return leaves(dict(enumerate(tree)), name)
    return [(name, tree)]


@pytest.mark.parametrize("case", one_of_two.CASES)
def test_two_processes_have_the_numbers_of_one(both, case):
    """Up to the rounding of sums that are added up in another order; the streams to the bit."""
    first, second = (found[case] for found in both)
    alone = one_of_two.run(case, ALONE)
    tolerance = 1e-4 if case in one_of_two.IN_SINGLE else 1e-12
    assert str(leaves(first)) == str(leaves(second))
    for (name, found), (same, expected) in zip(leaves(first), leaves(alone), strict=True):
        assert name == same
        if "streams" in name:
            assert torch.equal(found, expected), name
        elif found is not None:
            close = torch.testing.assert_close
            close(
                found,
                expected,
                rtol=tolerance,
                atol=tolerance,
                msg=lambda text, n=name: f"{n}: {text}",
            )


def test_a_number_that_is_not_finite_fails_in_all_at_once(both):
    said = {found["failing"] for found in both}
    assert said == {"the action of world 0 is [nan, nan]; expected finite numbers (process 1)"}


def test_processes_whose_parameters_differ_say_so_in_all(both):
    """As a learner of a user's own would that goes by what its own part of the tasks has earned."""
    (said,) = {found["unlike"] for found in both}
    assert "MamlPPO: params.policy.trunk.layers.1.bias isn't the same in all processes" in said


def test_a_lost_process_ends_the_job_and_the_run_goes_on(tmp_path, monkeypatch):
    """Here with one process, since their number makes no difference but for rounding."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    words = [*TINY, "iterations=300", f"run_dir={folder}"]
    first, second = two_processes(ROOT / "scripts" / "train.py", *words)
    deadline = time.monotonic() + 300
    while len(checkpoint.list_checkpoints(folder / "checkpoints")) < 2:
        assert first.poll() is None and time.monotonic() < deadline, "it ended or hung"
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    said = first.communicate(timeout=120)[1]
    second.communicate()
    assert first.returncode == 2 and "error: process 0 has lost another of this job" in said
    done = checkpoint.load_newest(folder / "checkpoints")[1]["iteration"]
    assert not (folder / "run.lock").exists() and 0 < done < 300
    more = done + 2
    assert call(monkeypatch, train, f"resume={folder}", f"iterations={more}") == 0
    assert call(monkeypatch, train, *TINY, f"iterations={more}", f"run_dir={whole}") == 0
    for found, expected in zip(
        *(read_rows(x / "metrics.jsonl") for x in (folder, whole)), strict=True
    ):
        assert found["return_after"] == pytest.approx(expected["return_after"], rel=1e-3)


def test_each_process_has_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(distributed, "used", lambda device: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cuda = torch.device("cuda")
    assert distributed.own_device(cuda) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="process 1 of this machine finds 1 CUDA devices"):
        distributed.own_device(cuda)
    # Slurm may show each process its own alone.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert distributed.own_device(cuda) == torch.device("cuda", 0)


def test_one_process_of_torchrun_goes_the_way_of_many(monkeypatch):
    """So that a machine with one GPU can try it; several seeds, which don't go with it, train on."""
    ran = []
    for module, name in ((train.processes, "processes"), (train.several, "several")):
        monkeypatch.setattr(module, "run", lambda config, name=name: ran.append(name))
    monkeypatch.setattr(distributed, "is_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert call(monkeypatch, train, *TINY) == call(monkeypatch, train, *TINY, "num_seeds=2") == 0
    assert ran == ["processes", "several"]


def test_a_device_whose_memory_is_full_is_no_lost_process():
    with pytest.raises(torch.OutOfMemoryError), distributed._lost_processes_named():
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (train, ["num_seeds=2"], "num_seeds=2: processes of torchrun share the tasks of one seed"),
        (train, ["-m", "seed=0,1"], "-m starts runs, torchrun shares out one"),
        (evaluate, ["checkpoint=x"], "evaluate is done in one process, not in 2"),
    ],
)
def test_what_does_not_go_with_torchrun_is_said(monkeypatch, capsys, command, words, message):
    monkeypatch.setattr(distributed, "num_processes", lambda: 2)
    assert call(monkeypatch, command, *words) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")
