"""The type and the range of every key of every command, said once: a name means the same in all
configs that have it.

Where it doesn't, the name stands behind whose key it is: a class or function that a `_target_`
names, an environment, the key above it, or the command. What several settings must agree on (a
trial and the context of a transformer) is checked by those who know, before anything is made.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from metarl.cli.kinds import (
    Bounds,
    Flag,
    Integer,
    Kind,
    ListOf,
    Number,
    OneOf,
    OrNull,
    Pattern,
    Place,
    Word,
)
from metarl.run.loggers.opening import LOGGERS

_COUNT, _COUNT_OR_NONE = Integer(1), Integer(0)
_POSITIVE, _NOT_NEGATIVE, _SHARE = Number(above=0), Number(least=0), Number(least=0, most=1)
_DECAY = Number(above=0, most=1)
_WIDTHS = ListOf(_COUNT, least=1)
_FOLDER, _RUN = (
    Place("a folder"),
    Place("a run folder, <run folder>/best, a checkpoint file or zoo:<name>"),
)
_SEED = Integer(0, most=2**63 - 1)

ALLOWED: dict[str, Kind] = {
    # Runs
    "checkpoint": _RUN,
    "render.checkpoint": OrNull(_RUN),
    "checkpoint_every": _COUNT,
    "device": Pattern(r"cpu|auto|cuda(:\d+)?", "cpu, cuda, cuda:<number> or auto"),
    "iterations": _COUNT_OR_NONE,
    "num_seeds": _COUNT,
    "keep_checkpoints": _COUNT,
    "eval_every": OrNull(_COUNT),
    "eval_tasks": OrNull(_COUNT),
    "loggers": ListOf(OneOf(*LOGGERS)),
    "project": Word("a name"),
    "entity": OrNull(Word("a name")),
    "mode": OrNull(OneOf("online", "offline", "disabled")),
    "tracking_uri": OrNull(Word("an address of a server, a file or a folder")),
    "experiment": Word("a name"),
    "log_every": _COUNT,
    "output": OrNull(Place("a folder")),
    "evaluate.output": OrNull(Place("a folder, or a file x.json")),
    "deterministic": Flag(),
    "recorded": ListOf(Place("a file")),
    "half": Flag(),
    "zoo.name": OrNull(Pattern(r"[\w.-]+/[\w.-]+", "<environment or dataset>/<learner>")),
    "run": OrNull(_RUN),
    "resume": OrNull(_RUN),
    "run_dir": OrNull(_FOLDER),
    "runs": ListOf(Place("a folder, or a pattern of folders"), least=1),
    "out": Place("a file"),
    "against": OrNull(Word("a learner's name")),
    "names": OrNull(ListOf(Word("a name"), least=1)),
    "num_videos": _COUNT_OR_NONE,
    "figures": OrNull(_FOLDER),
    "seed": _SEED,
    # Evaluations and videos
    "num_tasks": OrNull(_COUNT),
    "fewshot.num_tasks": _COUNT,
    "render.num_tasks": _COUNT,
    "num_updates": OrNull(_COUNT_OR_NONE),
    "evaluate.context_size": OrNull(_COUNT),
    "evaluation.episodes_per_task": OrNull(_COUNT),
    "evaluate.episodes_per_task": OrNull(_COUNT),
    "evaluation.split": OneOf("train", "validation", "test"),
    "evaluation.ways": OrNull(_COUNT),
    "evaluation.shots": OrNull(_COUNT),
    "evaluation.queries": OrNull(_COUNT),
    "pictures": Flag(),
    "video": Flag(),
    "render.width": Integer(64, most=8192),
    "render.height": Integer(48, most=8192),
    # Benchmarks
    "what": OneOf(
        *("sim", "update", "fewshot", "iteration", "plan", "seeds"),
        *("rates", "launches", "parity", "gpu"),
    ),
    "toy": Flag(),
    "num_estimates": Integer(2),
    "num_worlds": _COUNT,
    "collect": Flag(),
    "vector_envs": Flag(),
    "rounds": _COUNT,
    "envpool_python": OrNull(Place("a file")),
    "rows": OrNull(ListOf(Word("a name"), least=1)),
    "benchmark.output": OrNull(Place("a file")),
    # Environments and their simulation
    "name": Word(),
    "action_scale": _POSITIVE,
    "backend": OneOf("cpu", "warp", "auto"),
    "fails_at_step": OrNull(_COUNT),
    "horizon": _COUNT,
    "num_actions": Integer(2),
    "num_arms": Integer(2),
    "num_states": Integer(2),
    "num_test_tasks": _COUNT,
    "num_train_tasks": OrNull(_COUNT),
    "half_cheetah_vel_pearl.num_train_tasks": _COUNT,
    "point_navigation_2d_sparse_pearl.num_train_tasks": _COUNT,
    "shows_task": OrNull(Flag()),
    "max_contacts": OrNull(_COUNT),
    "test_velocities": OneOf("own", "published"),
    "num_threads": OrNull(Integer(1, most=4096)),
    # Tasks and data of few-shot learning
    "ways": _COUNT,
    "shots": _COUNT,
    "queries": _COUNT,
    "instances": _COUNT,
    "train_shots": _COUNT,
    "train_ways": OrNull(_COUNT),
    "amplitude": Bounds(),
    "phase": Bounds(),
    "x": Bounds(),
    "data_dir": OrNull(_FOLDER),
    "root": Place("a folder or an archive"),
    "mini_imagenet.root": OrNull(Place("a folder or an archive")),
    "grey": Flag(),
    "image_size": Integer(1, most=4096),
    "num_dimensions": _COUNT,
    "omniglot.split": OneOf("vinyals", "background"),
    "rotations": Flag(),
    "split_seed": _SEED,
    "test_share": Number(above=0, below=1),
    # Networks
    "action_unit": OrNull(_POSITIVE),
    "action_embedding": _COUNT_OR_NONE,
    "activation": OneOf("tanh", "relu"),
    "batch_norm": Flag(),
    "belief_embedding": _COUNT,
    "code_size": _COUNT,
    "context": _COUNT,
    "first_weights": OneOf("xavier", "published"),
    "decodes": ListOf(OneOf("reward", "state"), least=1),
    "filters": _COUNT,
    "has_feedback": Flag(),
    "has_last_observation": Flag(),
    "head_sizes": ListOf(_COUNT),
    "hidden_size": _COUNT,
    "hidden_sizes": _WIDTHS,
    "init_std": _POSITIVE,
    "latent_gain": _POSITIVE,
    "latent_products": Flag(),
    "latent_size": _COUNT_OR_NONE,
    "PearlModel.latent_size": _COUNT,
    "context_has_next_obs": Flag(),
    "encoder_sizes": _WIDTHS,
    "present_size": _COUNT,
    "mlp_policy.context_size": _COUNT_OR_NONE,
    "noise_size": _COUNT_OR_NONE,
    "BeliefModel.latent_size": _COUNT,
    "joint_decoder": Flag(),
    "key_strength": _POSITIVE,
    "mean_pooled": Flag(),
    "memory_size": _COUNT,
    "min_std": _POSITIVE,
    "next_obs_embedding": _COUNT,
    "num_heads": _COUNT,
    "num_layers": _COUNT,
    "num_models": _COUNT,
    "num_slots": _COUNT,
    "obs_embedding": _COUNT,
    "TrialEncoder.obs_embedding": _COUNT_OR_NONE,
    "RewardDecoder.obs_embedding": _COUNT_OR_NONE,
    "StateDecoder.obs_embedding": _COUNT_OR_NONE,
    "reward_embedding": _COUNT,
    "sizes": _WIDTHS,
    "slot_size": _COUNT,
    "strided": Flag(),
    "usage_decay": _SHARE,
    "width": _COUNT,
    # Learners
    "algo.name": Pattern(r"[\w-]{1,80}", "a word of letters, digits, - and _"),
    # How much a learner takes in
    "batch_size": _COUNT,
    "batch_tasks": _COUNT,
    "buffer_trials": _COUNT,
    "context_size": _COUNT,
    "evaluated_context": OrNull(_COUNT),
    "evaluated_episodes": _COUNT,
    "exploration_episodes": _COUNT,
    "initial_steps": _COUNT,
    "initial_trials": _COUNT,
    "posterior_steps": _COUNT_OR_NONE,
    "prior_steps": _COUNT,
    "rl_steps": _COUNT_OR_NONE,
    "updates_per_iteration": _COUNT,
    "chunk": _COUNT,
    "MamlPPO.chunk": OrNull(_COUNT),
    "MamlTRPO.chunk": OrNull(_COUNT),
    "episodes_per_task": _COUNT,
    "episodes_per_trial": _COUNT,
    "meta_batch_size": _COUNT,
    "num_beliefs": OrNull(_COUNT),
    "num_decoded": OrNull(_COUNT),
    "num_epochs": _COUNT,
    "num_future": _COUNT,
    "num_gradient_steps": _COUNT,
    "num_minibatches": _COUNT,
    "num_past": _COUNT,
    "num_sweeps": _COUNT,
    "random_iterations": _COUNT,
    "replay_capacity": _COUNT,
    "segment": _COUNT,
    "trials_per_task": _COUNT,
    "truncation": OrNull(_COUNT),
    # Inner steps
    "adapt": Flag(),
    "adapt_only": OrNull(ListOf(Word("a name"), least=1)),
    "compile": Flag(),
    "fine_tuning_lrs": ListOf(_POSITIVE),
    "forget_bias": Bounds(),
    "full_context": _COUNT_OR_NONE,
    "gradient_mode": OneOf("through", "first_order"),
    "inner_batch_size": _COUNT,
    "inner_beta": Number(least=0, below=1),
    "inner_kl_coefficient": _NOT_NEGATIVE,
    "inner_kl_steps": OneOf("first", "all"),
    "inner_kl_target": OrNull(_POSITIVE),
    "inner_loss": OneOf("lvc", "reinforce", "dice"),
    "mean_over": OneOf("steps", "episodes"),
    "inner_lr": _POSITIVE,
    "inner_lr_decay": _DECAY,
    "evaluate.inner_lr_decay": OrNull(_DECAY),
    "evaluation.inner_lr_decay": OrNull(_DECAY),
    "judged_updates": OneOf("last", "all"),
    "exploration_coefficient": _NOT_NEGATIVE,
    "latent_coefficient": _NOT_NEGATIVE,
    "prior_coefficient": _NOT_NEGATIVE,
    "latent_lr": _POSITIVE,
    "latent_shrink": Number(above=0, most=1),
    "latent_first_shrink": Number(above=0, most=1),
    "inner_rule": OneOf("sgd", "learned_rates", "per_step_rates"),
    "input_bias": Bounds(),
    "num_inner_steps": _COUNT,
    "num_test_steps": _COUNT,
    "adaptation.num_inner_steps": _COUNT_OR_NONE,
    "adaptation.num_test_steps": _COUNT_OR_NONE,
    "MamlMemory.num_inner_steps": _COUNT_OR_NONE,
    "MamlMemory.num_test_steps": _COUNT_OR_NONE,
    "scale": _POSITIVE,
    "test_batch_size": _COUNT,
    "transductive": Flag(),
    # Outer steps
    "cg_damping": _NOT_NEGATIVE,
    "cg_iterations": _COUNT,
    "adam_epsilon": _POSITIVE,
    "clip": _POSITIVE,
    "normalises": OneOf("returns", "rewards"),
    "value_loss": OneOf("squared", "clipped_huber"),
    "decay_iterations": _COUNT,
    "cost": OrNull(Word("a name")),
    "discount": _SHARE,
    "entropy_coefficient": _NOT_NEGATIVE,
    "entropy_half_life": OrNull(_POSITIVE),
    "gae_lambda": _SHARE,
    "halve_every": OrNull(_COUNT),
    "kl_target": OrNull(_POSITIVE),
    "line_search_ratio": Number(above=0, below=1),
    "line_search_steps": _COUNT,
    "kl_weight_executed": _NOT_NEGATIVE,
    "lr": _POSITIVE,
    "output_penalty": _NOT_NEGATIVE,
    "reward_scale": _POSITIVE,
    "target_rate": Number(above=0, most=1),
    "max_grad_norm": OrNull(_POSITIVE),
    "max_kl": _POSITIVE,
    "outer_lr": _POSITIVE,
    "value_coefficient": _NOT_NEGATIVE,
    # Planning
    "method": OneOf("mppi", "cem"),
    "noise_correlation": Number(least=0, below=1),
    "noise_std": _POSITIVE,
    "num_candidates": _COUNT,
    "num_elites": _COUNT,
    "num_iterations": _COUNT,
    "temperature": _POSITIVE,
}


def allowed(key: str, config: Mapping[str, Any], config_name: str) -> Kind | None:
    """The kind of the key `key` ("algo.inner_lr") of a composed configuration. None where nothing
    is said of it: it is of a user's own config, or holds keys itself."""
    *above, name = key.split(".")
    owner = next(_owners(above, config), config_name)
    if owner is None:
        return None
    candidates = [f"{owner}.{name}", f"{above[-1]}.{name}" if above else name, name]
    return next((ALLOWED[candidate] for candidate in candidates if candidate in ALLOWED), None)


def _owners(above: list[str], config: Mapping[str, Any]) -> Iterator[str | None]:
    """Yields whose keys lie below `above`, the nearest first: the last part of a target's name, or
    an environment's name. None stands for a user's own, who names keys freely."""
    for depth in range(len(above), 0, -1):
        value: Any = config
        for part in above[:depth]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping):
            continue
        if isinstance(target := value.get("_target_"), str):
            yield target.split(".")[-1] if target.startswith(("metarl.", "envs.")) else None
        elif above[:depth] == ["env"] and isinstance(own := value.get("name"), str):
            yield None if ":" in own else own
