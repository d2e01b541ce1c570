"""Small runs of every learner, whose numbers are kept: what a change of the code may not move
without saying so.

A case is a whole configuration, as a checkpoint keeps it, so that a new default in a YAML file
moves nothing here. It plays three iterations and an evaluation. `python tests/golden/record.py`
writes what is kept.
"""

import json
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from metarl.cli import build, configs, evaluation, fewshot_build
from metarl.fewshot.evaluate import adaptation_measures
from metarl.fewshot.types import TaskSource
from metarl.run import checkpoint
from metarl.run.seeding import Generators
from metarl.types import MetaLearner

FOLDER = Path(__file__).parent
VALUES = FOLDER / "values.json"
ITERATIONS = 3
NUM_TASKS = 3  # of an evaluation

_TINY_PLANNER = [
    "algo.planner.horizon=4",
    "algo.planner.num_candidates=8",
    "algo.planner.num_elites=3",
]
_GRADIENT = [
    "model.hidden_sizes=[8,8]",
    "algo.meta_batch_size=5",
    "algo.episodes_per_task=3",
    "algo.num_inner_steps=2",
]
_FINN = [
    "model=mlp",
    "algo.inner_lr=0.1",
    "algo.inner_lr_decay=1",
    "algo.inner_rule=sgd",
    "algo.inner_loss=reinforce",
    "algo.judged_updates=last",
    "algo.max_kl=0.01",
    "algo.cg_iterations=10",
]
_MODEL_BASED = [
    "model.hidden_sizes=[16]",
    "algo.meta_batch_size=3",
    "algo.episodes_per_trial=2",
    *_TINY_PLANNER,
]
_TRIALS = [
    "model.head_sizes=[8]",
    "algo.meta_batch_size=6",
    "algo.trials_per_task=2",
    "algo.num_minibatches=2",
]
_EXPERT = [
    *("model.hidden_sizes=[8]", "algo.meta_batch_size=3", "algo.episodes_per_task=2"),
    "algo.expert.batch_size=8",
]
_BELIEFS = [
    *(
        "model.encoder.hidden_size=8",
        "model.reward_decoder.hidden_sizes=[8]",
        "model.head_sizes=[8]",
    ),
    *("algo.meta_batch_size=6", "algo.trials_per_task=2", "algo.replay_capacity=2000"),
    *("algo.inference.num_gradient_steps=2", "algo.inference.batch_size=4"),
]
_ADAPTATION = [
    "adaptation.meta_batch_size=4",
    "adaptation.num_inner_steps=2",
    "adaptation.num_test_steps=2",
]
_DIGITS = ["dataset=digits", "backbone.sizes=[8]", "ways=3", "queries=4", *_ADAPTATION]
_CONV = [
    "dataset=digits",
    "backbone=conv4_strided",
    "backbone.filters=4",
    "ways=3",
    "queries=4",
    *_ADAPTATION,
]
_WAVES = ["dataset=sinusoid", "backbone.sizes=[8]", "evaluation.queries=10", *_ADAPTATION]

RL = {
    "maml_ppo": [
        *(
            "env=reacher_goal",
            "env.horizon=15",
            *_GRADIENT,
            "algo.inner_lr=0.1",
            "algo.outer_lr=0.001",
        ),
        *(
            "algo.episodes_per_task=12",
            "algo.meta_batch_size=3",
            "algo.inner_kl_target=0.001",
            "algo.num_epochs=4",
        ),
    ],
    "maml_ppo, learned rates": [
        *(
            "env=hopper_rand_params",
            "env.horizon=40",
            *_GRADIENT,
            "algo.inner_rule=per_step_rates",
            "algo.chunk=3",
        ),
        *(
            "algo.kl_target=0.003",
            "algo.outer_lr=0.01",
            "algo.max_grad_norm=0.5",
            "algo.inner_loss=dice",
        ),
    ],
    "maml_trpo": [
        *("env=point_navigation_2d_raw", "env.horizon=20", "algo=maml_trpo", *_FINN, *_GRADIENT),
    ],
    "maml_trpo, learned rates": [
        *("env=swimmer_vel", "env.horizon=15", "algo=maml_trpo", *_FINN, *_GRADIENT),
        "algo.inner_lr=0.03",
        *(
            "algo.inner_rule=learned_rates",
            "algo.adapt_only=[trunk.layers.1]",
            "algo.gradient_mode=first_order",
        ),
    ],
    "promp": [
        *("env=half_cheetah_vel_promp", "env.horizon=15", "algo=promp", *_GRADIENT),
        *("algo.inner_kl_target=0.001", "algo.num_epochs=3"),
    ],
    "e_maml": [
        *("env=point_navigation_2d", "env.horizon=20", "algo=e_maml", *_GRADIENT),
        *("algo.judged_updates=all", "model=latent_mlp"),
    ],
    "cavia": ["env=gridworld_5x5", "algo=cavia", *_GRADIENT],
    "maesn": ["env=swimmer_vel", "env.horizon=15", "algo=maesn", *_GRADIENT],
    "reptile, bandit": ["env=bandit", "env.horizon=10", "algo=reptile", *_GRADIENT],
    "rl2_ppo": [
        "env=tabular_mdp",
        "env.num_states=4",
        "algo=rl2_ppo",
        "model.memory.hidden_size=8",
        *_TRIALS,
    ],
    "rl2_ppo, external memory": [
        *(
            "env=hopper_rand_params",
            "env.horizon=30",
            "algo=rl2_ppo",
            "model=external_memory",
            *_TRIALS,
        ),
        *(
            "model.memory.hidden_size=8",
            "model.memory.num_slots=4",
            "model.has_last_observation=true",
        ),
        *("algo.entropy_coefficient=0.01", "algo.entropy_half_life=2"),
    ],
    "rl2_ppo, transformer": [
        *(
            "env=gridworld_5x5",
            "algo=rl2_ppo",
            "model=transformer",
            *_TRIALS,
            "model.memory.width=8",
        ),
        *("model.memory.num_layers=2", "model.memory.num_heads=2", "model.memory.context=64"),
    ],
    "rl2_ppo, bandit": [
        *(
            "env=bandit",
            "env.horizon=10",
            "algo=rl2_ppo",
            "model=lstm",
            "model.memory.hidden_size=8",
            *_TRIALS,
        ),
        "algo.episodes_per_trial=3",
    ],
    "memoryless_ppo": [
        *(
            "env=half_cheetah_dir",
            "env.horizon=15",
            "algo=memoryless_ppo",
            "model.memory.hidden_size=8",
        ),
        *("model.head_sizes=[8]", "algo.meta_batch_size=6", "algo.num_minibatches=2"),
    ],
    "pearl": [
        *("env=point_navigation_2d", "env.horizon=12", "env.num_train_tasks=4"),
        *("algo=pearl", "algo.meta_batch_size=3", "algo.initial_steps=12", "algo.prior_steps=12"),
        *("algo.posterior_steps=12", "algo.rl_steps=24", "algo.replay_capacity=90"),
        *("algo.updates_per_iteration=4", "algo.batch_tasks=3", "algo.batch_size=8"),
        *("algo.context_size=9", "algo.cost=distance", "algo.chunk=2"),
        *("model.encoder_sizes=[8]", "model.hidden_sizes=[8,8]"),
    ],
    "pearl, dynamics": [
        *("env=hopper_rand_params_pearl", "env.horizon=20", "env.num_train_tasks=2"),
        *("algo=pearl", "algo.meta_batch_size=3", "algo.initial_steps=20", "algo.prior_steps=20"),
        *("algo.rl_steps=20", "algo.replay_capacity=200", "algo.updates_per_iteration=4"),
        *("algo.batch_tasks=3", "algo.batch_size=8", "algo.context_size=9"),
        *("algo.evaluated_context=5", "model.context_has_next_obs=true"),
        *("model.encoder_sizes=[8]", "model.hidden_sizes=[8,8]"),
    ],
    "rl2_offpolicy": [
        *("env=walker2d_vel", "env.horizon=15", "algo=rl2_offpolicy", "algo.meta_batch_size=3"),
        *("algo.initial_trials=4", "algo.updates_per_iteration=4", "algo.batch_size=5"),
        *("algo.replay_capacity=200", "algo.chunk=2", "model.memory.hidden_size=8"),
        *("model.head_sizes=[8]", "model.present_size=4"),
    ],
    "varibad": [
        *("env=hopper_rand_params", "env.horizon=40", "algo=varibad", *_BELIEFS),
        *("model.decodes=[reward,state]", "algo.inference.num_beliefs=6"),
        *("algo.inference.num_decoded=5", "algo.inference.truncation=8"),
    ],
    "varibad, map": [
        *("env=gridworld_5x5", "algo=varibad", "model=belief_map", *_BELIEFS),
        *("algo.inference.num_beliefs=null", "algo.inference.num_decoded=null"),
        *("algo.episodes_per_trial=3", "algo.entropy_coefficient=0.01"),
    ],
    "multitask_ppo": [
        *("env=reacher_goal", "env.horizon=10", "algo=multitask_ppo", *_EXPERT),
        *("algo.rounds_per_update=2", "algo.expert.num_epochs=2"),
    ],
    "oracle_sac": ["env=swimmer_vel", "env.horizon=10", "algo=oracle_sac", *_EXPERT],
    "scratch_ppo": ["env=bandit", "env.horizon=10", "algo=scratch_ppo", *_EXPERT],
    "scratch_sac": ["env=point_navigation_2d", "env.horizon=6", "algo=scratch_sac", *_EXPERT],
    "recurrent_mbrl": [
        *(
            "env=half_cheetah_cripple",
            "env.horizon=12",
            "algo=recurrent_mbrl",
            *_MODEL_BASED,
            "model.memory_size=4",
        ),
        *("algo.segment=8", "algo.num_sweeps=2", "algo.batch_size=4", "algo.planner.method=cem"),
    ],
    "grbal": [
        *(
            "env=reacher_goal",
            "env.horizon=12",
            "algo=grbal",
            *_MODEL_BASED,
            "algo.num_past=4",
            "algo.num_future=4",
        ),
        *("algo.num_gradient_steps=3", "algo.batch_size=6", "algo.chunk=4"),
    ],
    "grbal, not adapting": [
        *("env=half_cheetah_vel", "env.horizon=12", "algo=grbal", *_MODEL_BASED, "algo.num_past=4"),
        *(
            "algo.num_future=4",
            "algo.num_gradient_steps=3",
            "algo.batch_size=6",
            "algo.chunk=4",
            "algo.adapt=false",
        ),
    ],
}

FEW_SHOT = {
    "maml": [*_CONV, "learner=maml"],
    "maml, sinusoid": [
        *_WAVES,
        "learner=maml",
        "learner.max_grad_norm=1.0",
        "learner.inner_rule=per_step_rates",
    ],
    "fomaml": [*_DIGITS, "learner=fomaml"],
    "anil": [*_CONV, "learner=anil", "learner.transductive=false", "adaptation.meta_batch_size=2"],
    "meta_sgd": [*_DIGITS, "learner=meta_sgd"],
    "imaml": [*_CONV, "learner=imaml", "learner.num_inner_steps=3", "learner.num_test_steps=2"],
    "reptile": [*_DIGITS, "learner=reptile", "learner.train_shots=3", "learner.num_test_steps=4"],
    "protonet": [*_CONV, "learner=protonet", "learner.halve_every=2"],
    "matching": [*_DIGITS, "learner=matching", "learner.full_context=0"],
    "cnp": [*_DIGITS, "learner=cnp", "learner.code_size=8", "learner.hidden_sizes=[8]"],
    "meta_lstm": [
        *_DIGITS,
        "learner=meta_lstm",
        "learner.num_inner_steps=3",
        "learner.hidden_size=4",
    ],
    "mann": [
        *_DIGITS,
        "learner=mann",
        "learner.instances=3",
        "learner.memory.hidden_size=8",
        "learner.memory.num_slots=6",
    ],
    "lstm": [*_DIGITS, "learner=lstm", "learner.instances=3", "learner.memory.hidden_size=8"],
    "maml_memory": [*_WAVES, "learner=maml_memory", "learner.memory.hidden_size=8"],
    "maml_memory_without_maml": [
        *_DIGITS,
        "learner=maml_memory_without_maml",
        "learner.memory.hidden_size=8",
    ],
    "maml_memory_without_memory": [*_DIGITS, "learner=maml_memory_without_memory"],
    "pretrain": [*_DIGITS, "learner=pretrain", "learner.num_test_steps=3", "learner.batch_size=20"],
    "nearest_embedding": [*_DIGITS, "learner=nearest_embedding", "learner.batch_size=20"],
    "nearest_neighbour": [*_DIGITS, "learner=nearest_neighbour", "learner.meta_batch_size=4"],
}

CHECKPOINTS = {"rl": "maml_ppo", "fewshot": "meta_sgd"}
"""Of which cases a checkpoint is kept, written after the first iteration."""


def compose(name: str) -> dict[str, Any]:
    """A case's configuration out of configs/ as they are now."""
    command, words = ("train", RL[name]) if name in RL else ("fewshot", FEW_SHOT[name])
    more = [] if name in RL else ["evaluation.num_tasks=3"]
    composed, _ = configs.composed(
        command, [*words, *more, "device=cpu", "seed=7"], [configs.CONFIGS]
    )
    resolved: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(composed), resolve=True)  # type: ignore[assignment]
    return resolved


class Run:
    """A case that can be played on, iteration by iteration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config: DictConfig = OmegaConf.create(dict(config))
        self.generators = Generators(self.config.seed)
        self._cpu = torch.device("cpu")
        self.learner: MetaLearner
        if "dataset" in self.config:
            self._source: TaskSource = fewshot_build.source(self.config)
            self.learner = fewshot_build.learner(
                self.config, self._source, self.generators, self._cpu
            )
        else:
            env = build.training_environment(self.config)
            self.learner = build.learner(self.config, env, self.generators, self._cpu)

    def numbers(self, iterations: int = ITERATIONS) -> dict[str, float]:
        """Every metric of so many further iterations, then the size of the parameters and an
        evaluation."""
        found = {}
        for iteration in range(iterations):
            found.update(
                {
                    f"iteration {iteration}: {name}": float(x)
                    for name, x in self.learner.step().items()
                }
            )
        state = self.learner.state_dict()
        for name in {"params", "module", "model"} & set(state):
            found[f"{name}: sum of squares"] = sum(
                x.double().square().sum().item() for x in _floats(state[name])
            )
        return found | (
            self._few_shot_evaluation() if "dataset" in self.config else self._evaluation()
        )

    def _evaluation(self) -> dict[str, float]:
        seed, most = self.config.seed, build.environment(self.config, 1).prior.num_held_out
        sizes = {"num_tasks": min(NUM_TASKS, most or NUM_TASKS), "num_updates": 2}
        report = evaluation.evaluate(
            self.config, self.learner, self._cpu, seed=seed, episodes_per_task=2, **sizes
        ).report
        return dict(
            _leaves({"evaluation": {name: x for name, x in report.items() if name != "tasks"}})
        )

    def _few_shot_evaluation(self) -> dict[str, float]:
        adapter = self.learner.adapter()
        measures = adaptation_measures(
            adapter,
            self._source,
            fewshot_build.test_size(self.config),
            num_tasks=NUM_TASKS,
            num_updates=2,
            generator=Generators(0)("evaluation"),
        )
        return dict(_leaves({"evaluation": measures.tolist()}))


def what_follows(kind: str) -> dict[str, float]:
    """The numbers of two iterations and an evaluation from the kept checkpoint of this kind."""
    content = checkpoint.load(FOLDER / f"{kind}.pt")
    run = Run(content["config"])
    run.learner.load_state_dict(content["learner"])
    run.generators.load_state_dict(content["generators"])
    return run.numbers(2)


def made_with() -> dict[str, str]:
    """What decides the last bits: libraries, and the processor, by which kernels are chosen."""
    found = {name: version(name) for name in ("torch", "mujoco", "numpy", "gymnasium")}
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    known = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    keys = ("vendor_id", "cpu family", "model", "model name")
    found["processor"] = (
        " ".join(known.get(key, "?").strip() for key in keys) if lines else platform.processor()
    )
    found["kernels"] = torch.backends.cpu.get_cpu_capability()
    return found


def kept() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(VALUES.read_text())
    return content


def write(content: Mapping[str, Any]) -> None:
    """Writes what is kept, a number a line, so that a diff shows which of them moved; a
    configuration is one line."""
    text = json.dumps(content, indent=0)
    configurations = re.compile(r'(?<="config": )\{.*?\n\}(?=,\n"numbers")', re.DOTALL)
    VALUES.write_text(configurations.sub(lambda found: found[0].replace("\n", " "), text) + "\n")


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a report, each with the words that lead to it."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{prefix} {name}".strip())
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}[{index}]")
    elif isinstance(tree, int | float):
        yield prefix, float(tree)


def _floats(tree: Any) -> Iterator[Tensor]:
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from _floats(value)
        elif value.is_floating_point():
            yield value
