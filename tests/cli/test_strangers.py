"""Checkpoints that somebody crafted, each with a right digest: none makes us call what it names,
and each fault is told in a line."""

import copy
import hashlib
import io
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import command
from support.few_shot import LEARNERS

from metarl.cli import build, checkpoints, configs, fewshot_build
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import fewshot as fewshot_command
from metarl.cli.commands import render as render_command
from metarl.cli.commands import train as train_command
from metarl.errors import UserError
from metarl.run import checkpoint
from metarl.run.seeding import Generators

pytestmark = pytest.mark.usefixtures("undrawn")

POINT = ["env=point_navigation_2d", "env.horizon=5", "iterations=1", "device=cpu"]
POINT += [
    "algo.meta_batch_size=2",
    "evaluation.num_tasks=2",
    "evaluation.video=false",
    "evaluation.num_updates=0",
]
RL = {
    "maml_ppo": ["algo=maml_ppo", "algo.episodes_per_task=2", "model.hidden_sizes=[4]"],
    "maml_trpo": ["algo=maml_trpo", "algo.episodes_per_task=2", "model.hidden_sizes=[4]"],
    "rl2_ppo": [
        "algo=rl2_ppo",
        "model.memory.hidden_size=4",
        "algo.num_minibatches=1",
        "algo.episodes_per_trial=1",
    ],
    "grbal": [
        "algo=grbal",
        "algo.num_gradient_steps=1",
        "algo.num_past=2",
        "algo.num_future=2",
        "model.hidden_sizes=[4]",
    ],
    "recurrent_mbrl": ["algo=recurrent_mbrl", "algo.num_sweeps=1", "model.hidden_sizes=[4]"],
    "varibad": ["algo=varibad", "algo.num_minibatches=1", "algo.replay_capacity=100"],
    "pearl": [
        "algo=pearl",
        "env.num_train_tasks=4",
        *("algo.initial_steps=10", "algo.prior_steps=10", "algo.rl_steps=5"),
        *("algo.updates_per_iteration=1", "algo.batch_tasks=2", "algo.batch_size=4"),
        *("algo.context_size=4", "algo.replay_capacity=40"),
        *("model.encoder_sizes=[4]", "model.hidden_sizes=[4]"),
    ],
    "rl2_offpolicy": [
        "algo=rl2_offpolicy",
        *("algo.initial_trials=2", "algo.updates_per_iteration=1", "algo.batch_size=2"),
        *("algo.replay_capacity=50", "model.memory.hidden_size=4", "model.head_sizes=[4]"),
    ],
}
SMALL_PLANS = ["algo.planner.num_candidates=4", "algo.planner.num_elites=2"]
DIGITS = [
    "dataset=digits",
    "ways=2",
    "queries=2",
    "backbone.sizes=[4]",
    "adaptation.meta_batch_size=2",
    "iterations=1",
]
DIGITS += [
    "checkpoint_every=1",
    "evaluation.num_tasks=2",
    "evaluation.pictures=false",
    "device=cpu",
]


def words_of(learner: str) -> list[str]:
    """What a small learner is trained with."""
    if learner in RL:
        plans = SMALL_PLANS if learner in ("grbal", "recurrent_mbrl") else []
        return [*POINT, *RL[learner], *plans]
    memory = ["learner.instances=2"] if learner in ("mann", "lstm") else []
    return [*DIGITS, f"learner={learner}", *memory]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run folder of a learner, trained for one iteration when it is first asked for."""
    folders: dict[str, Path] = {}

    def made(learner: str) -> Path:
        if learner not in folders:
            folder = folders[learner] = tmp_path_factory.mktemp("runs") / learner
            main = train_command.main if learner in RL else fewshot_command.main
            with pytest.MonkeyPatch.context() as monkeypatch:
                assert command(main, monkeypatch, *words_of(learner), f"run_dir={folder}") == 0
        return folders[learner]

    return made


def load(file: Path, learner: str) -> checkpoints.Loaded:
    return checkpoints.load(str(file)) if learner in RL else fewshot_build.load(str(file))


@pytest.fixture
def crafted(made: Any, tmp_path: Path) -> Any:
    """A file like a learner's newest one, with one thing changed by its place:
    "config.model.memory._target_"."""

    def crafted(learner: str, place: str, value: Any) -> Path:
        content = copy.deepcopy(checkpoint.load_newest(made(learner) / "checkpoints")[1])
        *path, last = place.split(".")
        inside: Any = content
        for part in path:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[int(part)]
        if value is DELETED:
            del inside[last]
        else:
            inside[last] = value
        buffer = io.BytesIO()
        torch.save(content, buffer)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        file = tmp_path / "checkpoints" / "iteration_00000001.pt"
        file.write_bytes(b"metarl-checkpoint " + digest.encode() + b"\n" + buffer.getvalue())
        return file

    return crafted


DELETED = object()


SHARED: list[Any] = [1]
for _ in range(15):
    SHARED = [SHARED] * 10  # some hundred places in a file, and 10 to the power of 15 values


def message(load_it: Any) -> str:
    """What is said of a file that is refused: one line."""
    with pytest.raises(UserError) as refused:
        load_it()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def touching(file: Path) -> dict[str, dict[str, Any]]:
    """Configurations that make the file when Hydra calls what they name."""
    return {
        "os.system": {"_target_": "os.system", "_args_": [f"touch {file}"]},
        "builtins.eval": {"_target_": "builtins.eval", "_args_": [f"open({str(file)!r}, 'w')"]},
        "subprocess.run": {"_target_": "subprocess.run", "args": ["touch", str(file)]},
        "pathlib.Path.touch": {
            "_target_": "pathlib.Path.touch",
            "_args_": [{"_target_": "pathlib.Path", "_args_": [str(file)]}],
        },
        "torch.save": {"_target_": "torch.save", "obj": 1, "f": str(file)},
        "hydra.utils.call": {
            "_target_": "hydra.utils.call",
            "config": {"_target_": "os.system", "_args_": [f"touch {file}"]},
        },
        "ours, but no choice": {
            "_target_": "metarl.run.checkpoint.save",
            "folder": str(file),
            "content": {},
            "keep": 1,
        },
    }


RL_PLACES = [
    "model",
    "model.memory",
    "model.head_sizes",
    "algo",
    "algo.planner",
    "algo.num_epochs",
    "sim",
    "env",
    "evaluation",
]
FEW_SHOT_PLACES = [
    "dataset",
    "dataset.rotations",
    "backbone",
    "backbone.sizes",
    "learner",
    "learner.memory",
    "learner.outer_lr",
]
PLACES = [("rl2_ppo", place) for place in RL_PLACES] + [
    ("mann", place) for place in FEW_SHOT_PLACES
]


@pytest.mark.parametrize(("learner", "place"), PLACES)
@pytest.mark.parametrize("target", touching(Path()))
def test_a_file_makes_us_call_nothing_that_our_configs_do_not_name_at_that_place(
    crafted: Any, tmp_path: Path, learner: str, place: str, target: str
) -> None:
    harm = touching(tmp_path / "harm")[target]
    hidden = [[harm], {"deep": {"_partial_": True} | harm}] if target == "os.system" else []
    for value in (harm, *hidden):
        file = crafted(learner, f"config.{place}", value)
        assert f"{file} doesn't fit, its config: " in message(lambda file=file: load(file, learner))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("learner", "place", "value"),
    [
        ("rl2_ppo", "config.model._target_", "os.system"),
        ("rl2_ppo", "config.model._target_", "metarl.rl.models.policies.mlp_policy.__globals__"),
        ("rl2_ppo", "config.model.memory._target_", "metarl.rl.models.memory.MemoryModel"),
        ("rl2_ppo", "config.model._args_", [1]),
        ("rl2_ppo", "config.model._recursive_", False),
        ("rl2_ppo", "config.model._convert_", "object"),
        ("rl2_ppo", "config.algo._target_", "metarl.rl.types.Sizes"),
        ("rl2_ppo", "config.algo._target_", {"_target_": "os.system"}),
        ("rl2_ppo", "config.env.name", "antigravity:fly"),
        ("rl2_ppo", "config.env.name", "os:system"),
        ("rl2_ppo", "config.env.name", ["os:system"]),
        ("mann", "config.learner._target_", "os.system"),
        ("mann", "config.learner.memory._target_", "os.system"),
        ("mann", "config.backbone._target_", "torch.load"),
        ("mann", "config.dataset._target_", "torch.hub.load"),
    ],
)
def test_what_isnt_ours_is_named(crafted: Any, learner: str, place: str, value: Any) -> None:
    said = message(lambda: load(crafted(learner, place, value), learner))
    assert place.removeprefix("config.") in said and "isn't metarl's" in said
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${oc.create:{a:1}}", "a${seed}", "${env.name}", "\\${seed}", "???"]
)
@pytest.mark.parametrize(
    ("learner", "place"),
    [
        ("rl2_ppo", "config.run_dir"),
        ("rl2_ppo", "config.model.activation"),
        ("mann", "config.dataset.x"),
    ],
)
def test_interpolations_are_refused_unresolved(
    crafted: Any, learner: str, place: str, text: str
) -> None:
    said = message(lambda: load(crafted(learner, place, text), learner))
    assert "refers to nothing" in said and text in said.replace("\\\\", "\\")


def test_every_command_refuses_such_a_file_in_a_line(
    crafted: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    commands = {
        train_command.main: "resume",
        evaluate_command.main: "checkpoint",
        render_command.main: "checkpoint",
        fewshot_command.main: "resume",
    }
    for main, word in commands.items():
        learner = "mann" if main is fewshot_command.main else "rl2_ppo"
        place = "learner" if learner == "mann" else "model"
        for value in (
            {"_target_": "os.system", "_args_": [f"touch {tmp_path}/harm"]},
            "${oc.env:HOME}",
        ):
            file = crafted(learner, f"config.{place}.more", value)
            capsys.readouterr()
            assert command(main, monkeypatch, f"{word}={file.parent.parent}", "device=cpu") == 2
            said = capsys.readouterr().err
            assert said.startswith(f"error: {file} doesn't fit, its config: {place}.more")
            assert said.count("\n") == 1
    assert not (tmp_path / "harm").exists()


def test_a_config_beside_a_checkpoint_gives_nobody_leave(
    crafted: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    file = crafted("rl2_ppo", "config.env.name", "os:system")
    (tmp_path / "config.yaml").write_text("# @package _global_\nenv:\n  name: os:system\n")
    words = (f"checkpoint={tmp_path}", "--config-dir", tmp_path, "device=cpu")
    assert command(evaluate_command.main, monkeypatch, *words) == 2
    assert (
        f"{file} doesn't fit, its config: env.name is 'os:system', which isn't metarl's"
        in capsys.readouterr().err
    )


OWN = """
import envs


def my_point(num_worlds, *, horizon=5, num_threads=None, device="cpu"):
    return envs.make("point_navigation_2d", num_worlds, horizon=horizon, num_threads=num_threads, device=device)
"""


def test_the_users_own_environment_is_called_where_the_user_names_it(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "their_envs.py").write_text(OWN)
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "my_point.yaml").write_text(
        "name: their_envs:my_point\nhorizon: 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder, mine = tmp_path / "run", ("--config-dir", tmp_path / "mine")
    words = [word for word in POINT if not word.startswith("env")] + RL["maml_ppo"]
    assert (
        command(train_command.main, monkeypatch, *mine, "env=my_point", *words, f"run_dir={folder}")
        == 0
    )
    assert "env.name: calls their_envs:my_point, which isn't metarl's" in capsys.readouterr().err

    for main, word in ((train_command.main, "resume"), (evaluate_command.main, "checkpoint")):
        assert command(main, monkeypatch, f"{word}={folder}", "device=cpu") == 2
        assert "env.name is 'their_envs:my_point', which isn't metarl's" in capsys.readouterr().err
        assert command(main, monkeypatch, *mine, f"{word}={folder}", "device=cpu") == 0
        assert (
            "env.name: calls their_envs:my_point, which isn't metarl's but named by "
            f"{tmp_path}/mine" in capsys.readouterr().err
        )
    for main, words in (
        (train_command.main, ["resume", "env.name"]),
        (evaluate_command.main, ["checkpoint", "+env.name"]),
    ):
        assert (
            command(
                main,
                monkeypatch,
                f"{words[0]}={folder}",
                f"{words[1]}=their_envs:my_point",
                "device=cpu",
            )
            == 0
        )
        assert (
            "env.name: calls their_envs:my_point, which isn't metarl's but named by the command "
            "line" in capsys.readouterr().err
        )


@pytest.mark.parametrize("learner", ["rl2_ppo", "mann"])
@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            "LEARNER._target_",
            "os.system",
            "its config: LEARNER._target_ is 'os.system', which isn't metarl's",
        ),
        (
            "LEARNER.more",
            {"_target_": "os.system"},
            "its config: LEARNER.more._target_ is 'os.system'",
        ),
        (
            "run_dir",
            "${oc.env:HOME}",
            "run_dir is '${oc.env:HOME}'; a saved configuration has values",
        ),
        ("LEARNER.more", 3, "its config: "),
        ("composed.choices", 3, "its composed: "),
        (
            "composed.follow_iterations",
            ["${now:%Y}"],
            "follow_iterations is '${now:%Y}'; expected a word",
        ),
    ],
)
def test_a_run_that_has_only_its_config_is_held_to_the_same(
    made: Any,
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
    learner: str,
    place: str,
    value: Any,
    said: str,
) -> None:
    group, main = (
        ("algo", train_command.main) if learner in RL else ("learner", fewshot_command.main)
    )
    found = OmegaConf.load(made(learner) / "config.yaml")
    OmegaConf.update(found, place.replace("LEARNER", group), value)
    OmegaConf.save(found, tmp_path / "config.yaml")
    capsys.readouterr()
    assert command(main, monkeypatch, f"resume={tmp_path}") == 2
    shown = capsys.readouterr().err
    assert (
        shown.startswith(f"error: {tmp_path}/config.yaml doesn't fit, its ")
        and shown.count("\n") == 1
    )
    assert said.replace("LEARNER", group) in shown


@pytest.mark.parametrize(
    ("learner", "place", "value", "said"),
    [
        ("rl2_ppo", "config", DELETED, "config is missing; expected a dict"),
        ("rl2_ppo", "config", "seed: 1", "config is 'seed: 1'; expected a dict"),
        ("rl2_ppo", "config.seed", DELETED, "seed is missing"),
        ("rl2_ppo", "config.seed", "x", "seed is 'x'; expected an integer"),
        ("rl2_ppo", "config.seed", -1, "seed is -1; expected an integer from 0"),
        ("rl2_ppo", "config.iterations", [3], "iterations is a list; expected an integer"),
        ("rl2_ppo", "config.algo", DELETED, "algo is missing; expected the settings of the algo"),
        ("rl2_ppo", "config.algo._target_", DELETED, "algo._target_ is missing"),
        ("rl2_ppo", "config.algo.discount", DELETED, "discount"),
        ("rl2_ppo", "config.algo.discount", "high", "algo.discount is 'high'; expected a number"),
        ("rl2_ppo", "config.algo.unheard_of", 1, "unheard_of"),
        ("rl2_ppo", "config.algo.meta_batch_size", None, "meta_batch_size"),
        ("rl2_ppo", "config.model.memory", 3, "model.memory is 3; expected keys and values"),
        (
            "rl2_ppo",
            "config.model.memory.hidden_size",
            1.5,
            "model.memory.hidden_size is 1.5; expected an integer",
        ),
        ("rl2_ppo", "config.env.horizon", "long", "env.horizon is 'long'; expected an integer"),
        ("rl2_ppo", "config.env.num_worlds", 3, "num_worlds"),
        ("rl2_ppo", "config.sim", {}, "sim.backend is missing"),
        ("rl2_ppo", "config.evaluation", 3, "evaluation is 3; expected keys and values"),
        ("rl2_ppo", "config.more", torch.zeros(1), "more is a Tensor; expected a number, a string"),
        ("rl2_ppo", "config.wandb.save_code", True, "wandb.save_code: a file may say project, ent"),
        ("rl2_ppo", "config.more", [0] * 10_000, "config has more than 10000 values"),
        ("rl2_ppo", "config.more", SHARED, "config has more than 10000 values"),
        ("rl2_ppo", "env", 3, "env is 3; expected a name"),
        ("rl2_ppo", "spec_hash", DELETED, "spec hash None"),
        ("rl2_ppo", "iteration", DELETED, "iteration is missing; expected a whole number"),
        ("rl2_ppo", "iteration", "3", "iteration is '3'; expected a whole number"),
        ("rl2_ppo", "seconds", "long", "seconds is a str; expected a number"),
        ("rl2_ppo", "env_steps", -3, "env_steps is -3; expected a whole number"),
        (
            "rl2_ppo",
            "generators",
            DELETED,
            "generators is missing; expected the states of random streams",
        ),
        (
            "rl2_ppo",
            "generators.reset",
            DELETED,
            "saved random streams are init, policy, tasks; used here: init, policy, reset",
        ),
        (
            "rl2_ppo",
            "generators.reset",
            3,
            "saved random stream reset isn't the state of a generator",
        ),
        (
            "rl2_ppo",
            "generators.reset",
            torch.zeros(7),
            "saved random stream reset isn't the state of a generator",
        ),
        ("rl2_ppo", "learner", DELETED, "learner is missing"),
        ("rl2_ppo", "learner", [1], "learner is a list; expected the learner's state"),
        ("rl2_ppo", "config.model.memory.hidden_size", 8, "model.memory."),
        ("mann", "config.learner.memory.hidden_size", 7, "module."),
        ("mann", "config.learner", DELETED, "learner is missing"),
        ("mann", "config.ways", DELETED, "ways is missing"),
        (
            "mann",
            "config.learner.instances",
            "many",
            "learner.instances is 'many'; expected an integer",
        ),
        ("mann", "tasks", DELETED, "tasks is missing"),
        ("mann", "learner_name", "$\\frac", "learner_name is '$\\\\frac'; expected a word"),
        ("mann", "dataset", {}, "dataset is a dict; expected a name"),
    ],
)
def test_what_does_not_fit_is_named(
    crafted: Any, learner: str, place: str, value: Any, said: str
) -> None:
    file = crafted(learner, place, value)
    text = message(lambda: load(file, learner))
    assert str(file) in text and said in text


@pytest.mark.parametrize("learner", [*RL, *LEARNERS])
def test_every_learner_names_what_does_not_fit_its_state(learner: str) -> None:
    """Each part of a learner's state taken away or exchanged for something else."""
    words = words_of(learner)
    kind, parts = ("train", build) if learner in RL else ("fewshot", fewshot_build)
    config = configs.merged(configs.composed(kind, words, [configs.CONFIGS])[0])
    world = parts.training_environment if learner in RL else parts.source
    built = parts.learner(config, world(config), Generators(0), torch.device("cpu"))
    built.step()
    whole = copy.deepcopy(built.state_dict())
    built.load_state_dict(whole)
    # Parameters have names with dots. Of an optimizer's groups, only what Adam can't do without.
    optional = ("param_groups", "optimizer.state.")
    # In turn: what the first weight is refused for, the second is as well. Five ways, so that
    # weights and biases, of which there are two a layer, and Adam's three numbers of each meet all.
    wrong = itertools.cycle(
        [
            lambda _: "a word",
            lambda _: [None],
            lambda _: {},
            lambda _: torch.zeros(3, 1, 4, 1),
            lambda tensor: tensor.to(torch.complex64),
        ]
    )

    def spoilt(tree: dict[Any, Any], place: str = "") -> Any:
        for key in tree:
            name = f"{place}{key}"
            if optional[1] not in name:
                yield name, {k: v for k, v in tree.items() if k != key}
            if isinstance(tree[key], torch.Tensor):
                yield name, tree | {key: next(wrong)(tree[key])}
                continue
            yield name, tree | {key: "a word"}
            yield name, tree | {key: [None]}
            if isinstance(tree[key], dict):
                for deeper, part in spoilt(tree[key], f"{name}."):
                    yield deeper, tree | {key: part}

    cases = list(spoilt(whole))
    assert cases or learner == "nearest_neighbour"
    for name, state in [*cases, ("surplus", whole | {"surplus": 1})]:
        with pytest.raises(ValueError) as refused:
            built.load_state_dict(state)
        assert name in str(refused.value) and "\n" not in str(refused.value)
    built.load_state_dict(whole)
    assert built.step()  # It still works with what fits.
