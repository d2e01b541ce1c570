"""Compares the speed of planning with models with that of the bare matrix products that it needs,
in control steps a second.

32 worlds, 500 candidates, 10 steps ahead, one search iteration; the recurrent ensemble of 5 models,
and GrBAL's network for each world, adapted on the last 16 transitions. The bare products are those
of the same layers on the same number of rows.
"""

import json
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

from metarl.cli.benchmarks.interleaved import measure, speedup
from metarl.core import params as P
from metarl.core.rules import LearnedRates
from metarl.nn.dynamics import FeedForwardDynamics, Layers, RecurrentDynamics, Transitions
from metarl.noise import Noise
from metarl.rl.adapters.planning import PlanningAdapter, WorldModel
from metarl.rl.algorithms.grbal import AdaptiveModel
from metarl.rl.algorithms.recurrent_mbrl import RememberingModel
from metarl.rl.algorithms.shared import MetaParams
from metarl.rl.planning import Planner
from metarl.struct import replace

WORLDS, CANDIDATES, HORIZON, MODELS = 32, 500, 10, 5
OBS, ACTION = 17, 6  # of half_cheetah
HIDDEN, MEMORY, PAST = (200, 200), 64, 16


def run_plan(rounds: int = 5, *, num_threads: int | None = None) -> list[dict[str, Any]]:
    """Measures both kinds of model, prints a line each, and returns them as JSON-able dicts."""
    results = []
    for name in ("recurrent_mbrl", "grbal"):
        variants: Any = {"plan": (plan, (name,)), "products": (products, (name,))}
        found = measure(variants, num_rounds=rounds, num_threads=num_threads or 1)
        ours, bare = found["plan"], found["products"]
        results.append(
            {
                "row": name,
                "name": f"{name}: {WORLDS} worlds, {CANDIDATES} candidates, {HORIZON} steps ahead"
                + (f", {MODELS} models" if name == "recurrent_mbrl" else ""),
                "control_steps_per_s": WORLDS / ours.median,
                "products_control_steps_per_s": WORLDS / bare.median,
                "share_of_products": speedup(ours, bare),
                "plan_mib": ours.peak_mib,
                "rounds": rounds,
                "threads": num_threads or 1,
            }
        )
        print(json.dumps(results[-1]), flush=True)
    return results


def plan(name: str) -> Callable[[], Any]:
    """One control step of all worlds: adapt, search, act."""
    generator = torch.Generator().manual_seed(0)
    model, memory, _ = _model(name, generator)
    planner = Planner(
        method="mppi",
        horizon=HORIZON,
        num_candidates=CANDIDATES,
        num_iterations=1,
        noise_std=0.5,
        noise_correlation=0.5,
        num_elites=50,
        temperature=0.2,
    )
    space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)
    adapter = PlanningAdapter(model, planner, space, torch.device("cpu"))
    state = replace(adapter.begin(WORLDS), memory=memory)
    obs = torch.randn(WORLDS, OBS, generator=generator)
    return lambda: adapter.act(state, obs, Noise(generator))


def products(name: str) -> Callable[[], Any]:
    """The matrix products of the same layers on as many rows, and nothing else."""
    layers = _model(name, torch.Generator().manual_seed(0))[2]
    groups = layers[0][0].shape[0]
    rows = WORLDS * CANDIDATES * (MODELS if name == "recurrent_mbrl" else 1) // groups
    inputs = [torch.randn(groups, rows, weight.shape[1]) for weight, _ in layers]
    outputs = [torch.empty(groups, rows, weight.shape[2]) for weight, _ in layers]

    def multiply() -> None:
        for _ in range(HORIZON):
            for x, (weight, _), out in zip(inputs, layers, outputs, strict=True):
                torch.bmm(x, weight, out=out)

    return multiply


def _model(name: str, generator: torch.Generator) -> tuple[WorldModel[Any], Any, Layers]:
    """The model, a memory of all worlds, and its layers in that memory."""
    if name == "recurrent_mbrl":
        sizes: dict[str, Any] = {
            "num_models": MODELS,
            "memory_size": MEMORY,
            "hidden_sizes": HIDDEN,
        }
        recurrent = RecurrentDynamics(OBS, ACTION, activation="relu", generator=generator, **sizes)
        hidden = torch.randn(MODELS, WORLDS, MEMORY, generator=generator)
        return (
            RememberingModel(recurrent),
            hidden,
            [(w.detach(), b.detach()) for w, b in recurrent.layers(hidden)],
        )
    network = FeedForwardDynamics(OBS, ACTION, HIDDEN, activation="relu", generator=generator)
    theta, rule = P.of(network.trunk), LearnedRates(0.01)
    params = MetaParams(theta=theta, rule=rule.init(theta))
    model = AdaptiveModel(network, params, rule, num_past=PAST, num_inner_steps=1)
    rows = (WORLDS, PAST)
    obs = torch.randn(*rows, OBS, generator=generator)
    past = Transitions(
        obs=obs,
        action=torch.randn(*rows, ACTION, generator=generator),
        next_obs=obs + torch.randn(*rows, OBS, generator=generator),
        reward=torch.randn(rows, generator=generator),
        mask=torch.ones(rows, dtype=torch.bool),
    )
    return model, past, network.layers(model.adapted(past))
