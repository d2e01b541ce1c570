"""Draws the curves among the published pictures anew, from the result files beside them.

    python docs/figures.py

Of each picture docs/figures.json keeps two digests: of what it shows (words, numbers, colours), and
of its file. tests/test_figures.py draws all of them in memory: results, code or wording that
changed without the pictures are found. What is left out needs a checkpoint: tasks.png and
curves_seed0.png of few-shot learning, videos, and docs/half_cheetah_vel.png.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import envs  # noqa: E402
from metarl.cli import build, fewshot_report  # noqa: E402
from metarl.cli.configs import merged, read  # noqa: E402
from metarl.files import write_text  # noqa: E402
from metarl.report.adaptation_plot import adaptation_figure  # noqa: E402
from metarl.report.algo_name import algo_name  # noqa: E402
from metarl.report.facts import fixed_speed_bounds  # noqa: E402
from metarl.report.finished import finished_runs, numbers_of  # noqa: E402
from metarl.report.learners import learners, side_by_side  # noqa: E402
from metarl.report.learners_plot import learners_figure  # noqa: E402
from metarl.report.plots import learning_figure, return_curves, write_png  # noqa: E402
from metarl.report.recorded import read_recorded  # noqa: E402

RESULTS, MANIFEST = ROOT / "results", ROOT / "docs/figures.json"

MEMORYLESS = "half_cheetah_vel_memoryless"

# Folder of results -> evaluation -> its picture.
ADAPTATION: dict[str, dict[str, str]] = {
    "ant_dir": {"evaluation_seed0": "adaptation_curve_seed0"},
    "ant_vel": {"evaluation_seed0": "adaptation_curve_seed0"},
    "arm_grasp/rl2": {"evaluation_seed1": "adaptation_curve_seed1"},
    "arm_reach_maml": {"evaluation": "adaptation_curve"},
    "arm_reach_rl2": {"evaluation": "adaptation_curve"},
    "bandit_100_5_rl2": {"evaluation_seed0": "adaptation_curve_seed0"},
    "bandit_500_5_rl2": {"evaluation": "adaptation_curve"},
    "gridworld_5x5_rl2": {"evaluation_seed0": "adaptation_curve_seed0"},
    "gridworld_5x5_varibad": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_cripple_grbal": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_dir": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_dir_promp": {"evaluation": "adaptation_curve"},
    "half_cheetah_vel": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_one_step": {"evaluation": "adaptation_curve"},
    "half_cheetah_vel_memoryless": {"evaluation": "adaptation_curve"},
    "half_cheetah_vel_pearl": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_pearl/batch_64": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_pearl/rl2_offpolicy": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_rl2": {"evaluation": "adaptation_curve"},
    "half_cheetah_vel_wide/rl2": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_wide/varibad": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_wide_without_floor/varibad": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_wide_without_torso/rl2": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_wide_without_torso/varibad": {"evaluation_seed0": "adaptation_curve_seed0"},
    "half_cheetah_vel_wide_discount_99": {"evaluation_seed0": "adaptation_curve_seed0"},
    "point_navigation_2d": {"evaluation_seed1": "adaptation_curve_seed1"},
    "tabular_mdp_rl2": {"evaluation": "adaptation_curve"},
}
# Where the algorithm's name doesn't say it.
LEARNERS = {MEMORYLESS: "PPO without memory", "memoryless": "PPO without memory"}
# Folder of results -> what is otherwise there than in another one of the same learner.
NOTES = {
    "half_cheetah_vel_30m_before/maml_trpo": "the defaults before",
    "half_cheetah_vel_30m_steady": "a rate that doesn't fall",
    "half_cheetah_vel_pearl": "32 steps of each task",
    "half_cheetah_vel_pearl/batch_64": "64 steps of each task",
    "half_cheetah_vel_wide_without_floor/varibad": "no floor under the noise",
}
# Folder of the picture -> the folders of results that stand side by side in it.
SIDE_BY_SIDE = {
    "ant_dir": ["ant_dir"],
    "ant_vel": ["ant_vel"],
    "arm_grasp": ["arm_grasp"],
    "half_cheetah_vel": ["half_cheetah_vel", "half_cheetah_vel_30m"],
    "half_cheetah_vel_15m": ["half_cheetah_vel_15m"],
    "half_cheetah_vel_maml": ["half_cheetah_vel_maml"],
    "half_cheetah_vel_pmr": ["half_cheetah_vel_pmr"],
    "half_cheetah_vel_wide": ["half_cheetah_vel_wide"],
    "half_cheetah_vel_wide_without_torso": ["half_cheetah_vel_wide_without_torso"],
    "metaworld_ml1_reach": ["metaworld_ml1_reach"],
    "point_navigation_2d_raw": ["point_navigation_2d_raw"],
    "point_navigation_2d_sparse": ["point_navigation_2d_sparse"],
    "point_navigation_2d_sparse_pearl": ["point_navigation_2d_sparse_pearl"],
    "walker2d_rand_params": ["walker2d_rand_params"],
}
# Folder of such a picture -> what others recorded, drawn beside.
RECORDED = {
    "half_cheetah_vel_maml": ["half_cheetah_vel_maml_maml_trpo"],
    "half_cheetah_vel_pmr": ["half_cheetah_vel_pmr_maml_trpo"],
    "point_navigation_2d_raw": ["point_navigation_2d_raw_maml_trpo"],
}
# Folder of results -> the metrics of its seeds.
TRAINING: dict[str, list[str]] = {
    "ant_dir": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "ant_dir/memoryless": ["metrics_seed0"],
    "ant_dir/oracle": ["metrics_seed0"],
    "ant_vel": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "ant_vel/memoryless": ["metrics_seed0"],
    "ant_vel/oracle": ["metrics_seed0"],
    "arm_grasp/memoryless": [f"metrics_seed{seed}" for seed in range(3)],
    "arm_grasp/rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "arm_reach_maml": ["metrics"],
    "arm_reach_rl2": ["metrics"],
    "bandit_100_5_rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "bandit_500_5_rl2": ["metrics"],
    "gridworld_5x5_memoryless": [f"metrics_seed{seed}" for seed in range(3)],
    "gridworld_5x5_rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "gridworld_5x5_varibad": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "half_cheetah_cripple_grbal": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "half_cheetah_cripple_recurrent_mbrl": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "half_cheetah_dir": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "half_cheetah_dir_promp": ["metrics"],
    "half_cheetah_vel": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_one_step": ["metrics"],
    "half_cheetah_vel_memoryless": ["metrics"],
    "half_cheetah_vel_15m/maml_ppo": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_15m/memoryless": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_15m/maml_trpo": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_15m/promp": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_15m/rl2": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m_steady": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m/promp": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m/memoryless": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m/rl2": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m/maml_trpo": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_30m_before/maml_trpo": [f"metrics_seed{seed}" for seed in range(5)],
    "half_cheetah_vel_pearl": ["metrics_seed0"],
    "half_cheetah_vel_pearl/batch_64": ["metrics_seed0", "metrics_seed1"],
    "half_cheetah_vel_pearl/rl2_offpolicy": ["metrics_seed0"],
    "half_cheetah_vel_rl2": ["metrics"],
    "half_cheetah_vel_wide/memoryless": [f"metrics_seed{seed}" for seed in range(3)],
    "half_cheetah_vel_wide/oracle": ["metrics_seed0"],
    "half_cheetah_vel_wide/rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "half_cheetah_vel_wide/varibad": [f"metrics_seed{seed}" for seed in range(3)],
    "half_cheetah_vel_wide_without_floor/varibad": [f"metrics_seed{seed}" for seed in range(3)],
    "half_cheetah_vel_wide_without_torso/rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "half_cheetah_vel_wide_without_torso/varibad": ["metrics_seed0", "metrics_seed1"],
    "half_cheetah_vel_wide_discount_99": ["metrics_seed0"],
    "point_navigation_2d": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "point_navigation_2d_sparse/memoryless": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse/varibad": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse/rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse_pearl/memoryless": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse_pearl/pearl": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse_pearl/rl2": [f"metrics_seed{seed}" for seed in range(3)],
    "point_navigation_2d_sparse_pearl/varibad": [f"metrics_seed{seed}" for seed in range(3)],
    "tabular_mdp_rl2": ["metrics"],
    "walker2d_rand_params/varibad": ["metrics_seed0"],
    "omniglot_5w1s_maml_mlp": ["metrics_seed0"],
    "omniglot_mann": ["metrics_seed0", "metrics_seed1", "metrics_seed2"],
    "omniglot_protonet_60_ways": ["metrics_seed0"],
}


def figures() -> dict[str, Callable[[], Figure]]:
    """Path of each picture, below the root, and what draws it."""
    found: dict[str, Callable[[], Figure]] = {}
    for folder, pictures in ADAPTATION.items():
        for evaluation, picture in pictures.items():
            found[f"results/{folder}/{picture}.png"] = partial(
                _adaptation, RESULTS / folder, evaluation
            )
    for folder, seeds in TRAINING.items():
        found[f"results/{folder}/learning_curve.png"] = partial(_training, RESULTS / folder, seeds)
    for folder, others in SIDE_BY_SIDE.items():
        found[f"results/{folder}/side_by_side.png"] = partial(
            _side_by_side, others, RECORDED.get(folder, [])
        )
    return dict(sorted(found.items()))


def _side_by_side(folders: list[str], recorded: list[str]) -> Figure:
    runs, _ = finished_runs([RESULTS / folder for folder in folders])
    of = learners(runs)
    others = [read_recorded(RESULTS / f"reference/{name}.csv") for name in recorded]
    return learners_figure(side_by_side(of), of, others)


def _adaptation(folder: Path, evaluation: str) -> Figure:
    report = json.loads((folder / f"{evaluation}.json").read_text("utf-8"))
    config = merged(read(folder / "config.yaml"))
    # Evaluations of earlier versions don't say these.
    report |= {
        "unit": build.sizes(config).unit,
        "algo": _learner(folder, config),
        "env": _problem(config),
    }
    env = build.environment(config, num_worlds=1)
    speeds = env.references.fixed_speeds
    if speeds is not None:
        targets = env.prior.test_tasks(report["num_tasks"]).target_velocity
        report["fixed_speeds"] = fixed_speed_bounds(speeds, targets, env.spec.horizon)
    return adaptation_figure(report)


def _training(folder: Path, seeds: list[str]) -> Figure:
    config = merged(read(folder / "config.yaml"))
    runs = [numbers_of(folder / f"{seed}.jsonl") for seed in seeds]
    who = (
        f"{len(runs)} seeds"
        if len(runs) > 1
        else f"seed {seeds[0].partition('seed')[2] or config.seed}"
    )
    if "dataset" in config:
        measure = "accuracy" if "accuracy" in runs[0][0] else "loss"
        dataset = config.dataset._target_.split(".")[-2]
        return learning_figure(
            runs,
            title=f"{dataset}, {folder.name.removeprefix('omniglot_')}, {who}",
            **fewshot_report.training_curves(runs[0][0], measure),
        )
    return learning_figure(
        runs,
        title=f"{_problem(config)}, {_learner(folder, config)}, {who}",
        curves=return_curves(runs[0], build.sizes(config).unit),
    )


def _problem(config: Any) -> str:
    """The environment, with its time limit where it isn't the usual one."""
    horizon, usual = (
        env.spec.horizon for env in (build.environment(config, 1), envs.make(config.env.name, 1))
    )
    return str(config.env.name) if horizon == usual else f"{config.env.name}, {horizon} steps"


def _learner(folder: Path, config: Any) -> str:
    name = LEARNERS.get(folder.name, algo_name(config))
    shown_task = ", shown the task" if config.env.get("shows_task") else ""
    note = NOTES.get(str(folder.relative_to(RESULTS)), "")
    return f"{name}{shown_task}{f' ({note})' if note else ''}"


def shown(figure: Figure) -> Iterator[str]:
    """What a figure says, as text: words, and of lines and areas the numbers and colours. Numbers
    have five digits, so that another version of a library, or machine, reads the same; ticks and
    layout, which follow the library, are left out."""
    yield figure.get_suptitle()
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend is not None:
            yield from (text.get_text() for text in [legend.get_title(), *legend.get_texts()])
    for axes in figure.axes:
        yield from (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel())
        yield from (text.get_text() for text in axes.texts)
        if isinstance(axes.yaxis.get_major_formatter(), FixedFormatter):  # agents' names
            yield from (text.get_text() for text in axes.get_yticklabels())
        for line in axes.lines:
            colour, points = to_hex(line.get_color()), _numbers(line.get_xydata())
            yield f"line {colour} {line.get_marker()} {points}"
        for area in axes.collections:
            colors = [to_hex(color) for color in (*area.get_facecolor(), *area.get_edgecolor())]
            yield f"area {colors} {[_numbers(path.vertices) for path in area.get_paths()]}"


def _numbers(points: Any) -> str:
    return " ".join(f"{float(x):.5g}" for x in points.flatten())


def digest(figure: Figure) -> str:
    return hashlib.sha256("\n".join(shown(figure)).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    kept: dict[str, dict[str, str]] = {}
    for name, draw in figures().items():
        figure = draw()
        kept[name] = {"shows": digest(figure), "file": ""}
        write_png(ROOT / name, figure)
        kept[name]["file"] = file_digest(ROOT / name)
        print(name)
    write_text(MANIFEST, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
