"""The benchmarks' own bookkeeping: which rows a kind has, and that a wrong meta-gradient would be
seen."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.emulated_graphs import EmulatedGraphs
from torch.utils._python_dispatch import TorchDispatchMode

from envs import episodes
from metarl.cli import build, origins
from metarl.cli.benchmarks import advantages, collection, fewshot, gpu, seeds
from metarl.cli.benchmarks import chunks as sized_chunks
from metarl.cli.benchmarks import few_shot_updates as few_shot
from metarl.cli.benchmarks import off_policy_updates as off_policy
from metarl.cli.benchmarks.interleaved import Measurement
from metarl.cli.benchmarks.launches import launches
from metarl.cli.benchmarks.rates import rates
from metarl.cli.commands import benchmark as command
from metarl.core import chunks
from metarl.errors import UserError
from metarl.rl.data import graphed
from metarl.rl.data.batches import policy_batch
from metarl.struct import replace

ROOT = Path(__file__).resolve().parents[2]


def test_relative_error_is_over_all_parameters_together():
    expected = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    # ‖(0, 0.3, 0.4)‖ / ‖(3, 0, 4)‖ = 0.5 / 5
    found = {"a": torch.tensor([3.0, 0.3]), "b": torch.tensor([4.4])}
    assert fewshot.relative_error(found, expected) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="parameters"):
        fewshot.relative_error({"a": expected["a"]}, expected)


def test_gradients_that_do_not_agree_are_reported(monkeypatch):
    one_step_less = lambda make, steps: few_shot.plain(make, steps - 1)
    problem = (few_shot.sinusoid, 3)
    rows = {
        "less": (problem, (one_step_less, problem)),
        "vmap": (problem, (few_shot.over_tasks, ("vmap", False, *problem))),
    }
    monkeypatch.setattr(fewshot, "AGREEMENT", rows)
    less, vmap = fewshot.agreement(tuple(rows))
    assert not less["reached"] and less["error"] > 1e-3
    assert vmap["reached"] and torch.get_default_dtype() == torch.float32


def test_the_plain_way_to_advantages_gives_the_same_numbers():
    t = advantages.noise(num_tasks=2)
    mask, terminated = t.mask.clone(), t.terminated.clone()
    mask[:, ::3, 120:], terminated[:, ::3, 119] = False, True  # every third episode ends early
    t = replace(t, mask=mask, terminated=terminated, reward=t.reward * mask)
    ours = policy_batch(t, discount=advantages.DISCOUNT, gae_lambda=advantages.GAE_LAMBDA).advantage
    for task in range(2):
        plain = advantages.plain_task(t.step_obs[task], t.reward[task], t.mask[task])
        torch.testing.assert_close(
            ours[task], plain.flatten(), rtol=1e-4, atol=1e-5
        )  # sums of 200 in float32


def test_seeds_together_and_one_after_the_other_do_the_same():
    words = ["env=point_navigation_2d", "env.horizon=5", "algo.meta_batch_size=2", "algo=maml_ppo"]
    assert seeds.together(words, 2)() == seeds.alone(words, 2)()


def test_chunks_of_all_sizes_update_alike_and_again_from_the_same_start(monkeypatch, capsys):
    words = ("env=point_navigation_2d", "env.horizon=5", "algo.meta_batch_size=3")
    default, own = (
        sized_chunks.update((*words, "algo=maml_ppo", "algo.episodes_per_task=2"), size)
        for size in (None, 1)
    )
    found = default()
    assert found == default()
    for name, value in own().items():  # sums of three tasks in float32, in another order
        assert value == pytest.approx(found[name], rel=1e-3, abs=1e-5)
    asked = []

    def measured(variants, **how):
        asked.append([args[1] for _, args in variants.values()])
        # The default takes twice as long.
        return {name: Measurement([2.0 if name == "None" else 1.0] * 3, 7.0) for name in variants}

    monkeypatch.setattr(sized_chunks, "measure", measured)
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", "iteration", "chunks=[5,2]"])
    command.main()
    assert asked == [[None, 5, 2]] * 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()[-6:]]
    assert [(row["row"], row["chunk"], row["speedup"]) for row in lines] == [
        *(("maml_ppo", None, 1.0), ("maml_ppo", 5, 2.0), ("maml_ppo", 2, 2.0)),
        *(("maml_trpo", None, 1.0), ("maml_trpo", 5, 2.0), ("maml_trpo", 2, 2.0)),
    ]


def test_chunks_of_what_has_none_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", "update", "chunks=[5]"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert (
        "chunks=[5]: update doesn't heed it; expected it with iteration" in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["update", "fewshot", "seeds"])
def test_unknown_rows_are_named(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", kind, "rows=[trpos]"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and "rows=trpos: expected some of" in shown


def test_the_off_policy_update_and_its_products_are_of_the_same_sizes(monkeypatch):
    """Every product of the reference is one of the update's, counted in multiplications."""
    small = {"TASKS": 2, "STEPS": 3, "CONTEXT": 2, "CHUNK": 1}
    sizes = {"ENCODER_SIZES": (4, 5), "HIDDEN_SIZES": (6, 7)}
    for name, value in (small | sizes).items():
        monkeypatch.setattr(off_policy, name, value)
    multiplied = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.name().split("::")[1].split(".")[0] in ("mm", "bmm", "addmm", "baddbmm"):
                a, b = [x for x in args if isinstance(x, torch.Tensor)][-2:]
                multiplied.append(a.numel() * b.shape[-1])
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(off_policy, "map_in_threads", lambda f, items: [f(item) for item in items])
    monkeypatch.setattr(chunks, "map_in_threads", lambda f, items, device: [f(x) for x in items])
    found = []
    for factory in (off_policy.products, off_policy.ours):
        step = factory()
        multiplied.clear()
        with Counting():
            step()
        found.append(sum(multiplied))
    assert found[0] == found[1]


def test_physics_on_a_gpu_is_measured_beside_its_own_loop_and_the_c_engine() -> None:
    on_gpu, on_cpu = rates("half_cheetah_vel", torch.device("cpu"), toy=True)
    assert on_gpu["num_worlds"] == 4 and on_gpu["device"] == "cpu"
    assert on_gpu["share_of_bare"] == pytest.approx(on_gpu["warp"] / on_gpu["bare"])
    assert on_cpu["cpu"] > 0 and on_cpu["num_threads"] >= 1


def test_what_happens_between_two_control_steps_is_counted() -> None:
    (row,) = launches("half_cheetah_vel", torch.device("cpu"), toy=True)
    assert (row["name"], row["num_worlds"], row["launches"], row["waits"], row["graphs"]) == (
        *("half_cheetah_vel", 4),
        *(0, 0, False),  # There is no GPU.
    )
    assert row["operations"] > 20 and row["host"] <= row["all"]


def test_replayed_control_steps_are_counted_beside(monkeypatch) -> None:
    monkeypatch.setattr(episodes, "_check_values", lambda *_: None)
    monkeypatch.setattr(graphed, "CudaGraphs", EmulatedGraphs)
    made = build.training_environment

    def with_graphs(config, device):
        env = made(config, device)
        env.graphs = []
        return env

    monkeypatch.setattr(build, "training_environment", with_graphs)
    rows = launches("half_cheetah_vel", torch.device("cpu"), toy=True)
    assert [row["graphs"] for row in rows] == [False, True]
    assert rows[0].keys() == rows[1].keys()


def test_a_gpu_is_asked_one_thing_after_the_other_and_answers_are_kept(
    tmp_path, monkeypatch
) -> None:
    answers, output = tmp_path / "answers.jsonl", tmp_path / "output.jsonl"

    def asked(name: str, code: str, limit: int = 60, **kept: Any) -> gpu.Question:
        return gpu.Question(name=name, words=("-c", code), limit=limit, **kept)

    writes = f"open({str(answers)!r}, 'w').write('{{\"rate\": 3}}\\n')"
    monkeypatch.setattr(
        gpu,
        "questions",
        lambda *args, **kwargs: iter(
            [
                asked("tests", "print('2 passed')"),
                asked(
                    "cut off",
                    f"{writes}; print('begun', flush=True); import time; time.sleep(60)",
                    3,
                    answers=answers,
                ),
                asked("broken", "raise SystemExit('no GPU')"),
                asked("warned", "import sys; print('no graphs', file=sys.stderr)"),
            ]
        ),
    )
    gpu.run_gpu(torch.device("cpu"), output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {(row["commit"], row["on"]) for row in rows} == {(origins.commit(), "cpu")}
    others = ("seconds", "commit", "on")
    told = [{key: row[key] for key in row if key not in others} for row in rows]
    assert told == [
        {"question": "tests", "said": "2 passed\n"},
        {"question": "cut off", "rate": 3},
        {"question": "cut off", "error": "not done in 3 s; it had said: begun\n"},
        {"question": "broken", "error": "no GPU\n"},
        {"question": "warned", "said": "", "aside": "no graphs\n"},
    ]
    # A further call asks what has no whole answer yet: not the tests.
    monkeypatch.setattr(gpu, "SECONDS", 0)
    again = gpu.run_gpu(torch.device("cpu"), output)
    assert [row["question"] for row in again] == ["cut off", "broken"]
    assert all(row["error"] == "no time left" for row in again)
    # Another commit's answers are none.
    monkeypatch.setattr(gpu.origins, "commit", lambda: "another")
    assert len(gpu.run_gpu(torch.device("cpu"), output)) == 4


def test_a_question_that_takes_too_long_leaves_no_process(tmp_path) -> None:
    """As torchrun, which has others do the work."""
    mark = tmp_path / "alive"
    writer = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {writer!r}])"
    (row,) = gpu._asked(gpu.Question(name="slow", words=("-c", starts), limit=1), 60.0)
    assert "not done in 1 s" in row["error"]
    time.sleep(4.5)
    assert not mark.exists()


def test_all_questions_to_a_gpu_fit_into_a_transfer_of_ten_minutes(tmp_path) -> None:
    """The limit of all is below it; the first ones, which matter most, can all take their time."""
    asked = list(gpu.questions(torch.device("cuda"), tmp_path, toy=False))
    assert gpu.SECONDS < 600
    assert sum(question.limit for question in asked[:6]) <= gpu.SECONDS
    assert len({question.name for question in asked}) == len(asked)
    assert all((ROOT / q.words[0]).exists() for q in asked if q.words[0].endswith(".py"))


def test_rows_are_written_as_they_come(tmp_path, capsys):
    output = tmp_path / "rows.jsonl"

    def measured():
        yield "first"
        assert output.read_text() == "first\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command._write(measured(), output)
    assert output.read_text() == "first\n"
    with pytest.raises(UserError, match="output: can't write .*: Is a directory"):
        command._write(iter(["one", "two"]), tmp_path)
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env.horizon=7"], "env.horizon=7: benchmarks measure an environment with its own"),
        (
            ["rows=[trpo]"],
            "rows=[trpo]: sim doesn't heed it; expected it with update, fewshot, seeds",
        ),
        (
            ["toy=true"],
            "toy=true: sim doesn't heed it; expected it with rates, launches, parity, gpu",
        ),
        (["what=update"], "what=update: expected one kind at a time"),
        (["output={}/file/rows.jsonl"], "output: can't write {}/file/rows.jsonl: Not a directory"),
    ],
)
def test_what_would_be_found_out_after_measuring_is_said_before(
    words, said, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(command, "run_sim", None)
    words = [word.format(tmp_path) for word in words]
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", "sim", "env=bandit", *words])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2 and said.format(tmp_path) in capsys.readouterr().err


def test_collection_where_episodes_end_early_is_measured_without_rest_too(monkeypatch):
    monkeypatch.setattr(collection, "NUM_TASKS", 2)
    monkeypatch.setattr(collection, "EPISODES_PER_TASK", 2)
    names = {
        env: [name for name, _ in collection.collect_rows(env, num_threads=1)]
        for env in ("half_cheetah_vel", "hopper_rand_params")
    }
    assert names["half_cheetah_vel"] == ["collect 2 x 2 x 200"]
    assert names["hopper_rand_params"] == ["collect 2 x 2 x 200", "collect, no world rests"]
    for _, measure in collection.collect_rows("hopper_rand_params", num_threads=1):
        assert measure() > 0
