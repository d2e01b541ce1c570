"""Who looks for the test of a file finds it: tests/ has the rooms of metarl/ and envs/, and each
file has a test file of its name there, or COVERED says which one has its tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

COVERED = {
    "api/test_agent.py": "metarl/api/export metarl/api/playing metarl/api/policy",
    "api/test_training.py": "metarl/api/loading metarl/api/results metarl/cli/session",
    "test_zoo.py": "metarl/cli/commands/zoo",
    "cli/test_benchmarks.py": "metarl/cli/benchmarks/* metarl/cli/commands/benchmark",
    "cli/test_compare.py": "metarl/cli/commands/compare",
    "cli/test_report.py": "metarl/cli/commands/report metarl/report/page/figures",
    "cli/test_estimators.py": "metarl/cli/commands/estimators metarl/report/estimator_plot",
    "cli/test_strangers.py": "metarl/cli/checkpoints",
    "cli/test_run_folder.py": "metarl/cli/resumed_config metarl/cli/run_config",
    "cli/test_evaluation.py": "metarl/cli/commands/evaluate",
    "cli/test_main.py": "metarl/cli/overrides metarl/cli/helptext metarl/cli/configs metarl/errors",
    "cli/test_words.py": "metarl/cli/allowed metarl/cli/kinds",
    "test_fewshot_runs.py": "metarl/cli/commands/fewshot metarl/cli/fewshot_build metarl/cli/fewshot_report "
    "metarl/report/fewshot_plots",
    "test_packaging.py": "metarl/envs_package",
    "test_render.py": "metarl/cli/commands/render metarl/cli/filming",
    "test_runs.py": "metarl/cli/commands/train metarl/cli/build metarl/cli/origins",
    "core/test_adapt.py": "metarl/core/gradients metarl/core/implicit metarl/struct",
    "core/test_linalg.py": "metarl/core/params metarl/core/trust_region",
    "fewshot/test_baselines.py": "metarl/fewshot/algorithms/nearest_neighbour metarl/fewshot/algorithms/pretrain",
    "fewshot/test_episodic.py": "metarl/fewshot/algorithms/cnp metarl/fewshot/algorithms/episodic "
    "metarl/fewshot/algorithms/matching metarl/fewshot/algorithms/protonet",
    "fewshot/test_maml.py": "metarl/fewshot/algorithms/maml metarl/fewshot/algorithms/shared "
    "metarl/fewshot/gradient_adapter metarl/fewshot/losses metarl/nn/features",
    "fewshot/test_memory_learners.py": "metarl/core/lstm_update metarl/fewshot/algorithms/maml_memory "
    "metarl/fewshot/algorithms/mann metarl/fewshot/algorithms/meta_lstm",
    "fewshot/test_omniglot.py": "metarl/fewshot/omniglot_archives",
    "fewshot/test_picture_files.py": "metarl/fewshot/folder metarl/fewshot/mini_imagenet",
    "fewshot/test_pickled_data.py": "metarl/fewshot/pickle_machine metarl/fewshot/pickle_values",
    "fewshot/test_reptile.py": "metarl/fewshot/algorithms/reptile",
    "fewshot/test_tasks.py": "metarl/fewshot/digits metarl/fewshot/images metarl/fewshot/logistic "
    "metarl/fewshot/sinusoid metarl/fewshot/types",
    "core/test_linearize.py": "metarl/core/differentiated metarl/nn/mlp_derivatives",
    "nn/test_heads.py": "metarl/nn/mlp",
    "nn/test_recurrent.py": "metarl/nn/transformer",
    "report/test_learners_table.py": "metarl/report/markdown",
    "report/test_summary_table.py": "metarl/report/csv_table metarl/report/summary",
    "report/page/test_content.py": "metarl/report/page/chart metarl/report/page/charts metarl/report/page/films "
    "metarl/report/page/provenance metarl/report/page/task_charts",
    "report/page/test_fewshot.py": "metarl/report/page/fewshot_charts "
    "metarl/report/page/fewshot_figures metarl/report/page/fewshot_measures",
    "report/test_evaluation.py": "metarl/report/facts",
    "report/test_video.py": "metarl/report/panels",
    "rl/algorithms/test_maml.py": "metarl/rl/algorithms/maml_ppo metarl/rl/algorithms/maml_trpo",
    "rl/adapters/test_latent_rule.py": "metarl/core/judged",
    "rl/algorithms/test_gradient_family.py": "metarl/rl/algorithms/exploration "
    "metarl/rl/algorithms/reptile",
    "rl/algorithms/test_memoryless.py": "metarl/rl/algorithms/memoryless_ppo",
    "rl/algorithms/test_multitask.py": "metarl/rl/algorithms/oracle metarl/rl/algorithms/scratch",
    "rl/sb3/test_ppo.py": "metarl/rl/sb3/agents metarl/rl/sb3/expert metarl/rl/sb3/library",
    "rl/algorithms/test_model_based.py": "metarl/rl/adapters/planning metarl/rl/algorithms/grbal "
    "metarl/rl/algorithms/recurrent_mbrl metarl/rl/models/dynamics",
    "rl/algorithms/test_rl2.py": "metarl/rl/adapters/memory metarl/rl/algorithms/ppo "
    "metarl/rl/algorithms/rl2_ppo metarl/rl/data/trials metarl/rl/models/memory "
    "metarl/rl/models/policies",
    "rl/algorithms/test_pearl.py": "metarl/rl/algorithms/pearl_play metarl/rl/models/pearl "
    "metarl/rl/models/unit_actions",
    "rl/algorithms/test_rl2_offpolicy.py": "metarl/rl/models/recurrent_actor_critic",
    "rl/algorithms/test_varibad.py": "metarl/rl/adapters/belief metarl/rl/models/belief",
    "rl/data/test_collect.py": "metarl/rl/data/record metarl/rl/data/rounds metarl/rl/types",
    "rl/data/test_graphed.py": "metarl/rl/data/cuda_graphs",
    "rl/data/test_replay.py": "metarl/rl/data/rows metarl/rl/data/stretches",
    "rl/test_meta_gradient_estimators.py": "metarl/rl/enumerated",
    "rl/algorithms/test_together.py": "metarl/nn/parts metarl/rl/adapters/together",
    "cli/test_held_out.py": "metarl/cli/tracking metarl/report/held_out",
    "run/test_distributed.py": "metarl/cli/processes",
    "run/test_checkpoint.py": "metarl/run/archive",
    "run/test_loggers.py": "metarl/run/log metarl/run/loggers/*",
    "run/test_shards.py": "metarl/run/memory",
    "run/test_train.py": "metarl/run/iteration metarl/run/progress metarl/run/shown metarl/run/rows metarl/run/saver "
    "metarl/run/timing metarl/run/training metarl/types",
    "envs/mujoco/arm/test_env.py": "envs/mujoco/arm/control envs/mujoco/arm/objects envs/mujoco/arm/script "
    "envs/mujoco/arm/state envs/mujoco/arm/tasks",
    "envs/mujoco/test_half_cheetah.py": "envs/mujoco/motion envs/mujoco/planar envs/mujoco/targets",
    "envs/mujoco/test_render.py": "envs/mujoco/gl",
    "envs/mujoco/test_scaled_physics.py": "envs/mujoco/hopper envs/mujoco/models",
    "envs/mujoco/test_upright.py": "envs/mujoco/walker2d",
    "envs/own/test_environment.py": "envs/own/tasks",
    "envs/own/test_world.py": "envs/own/spaces",
    "envs/sim/test_cpu.py": "envs/sim/types",
    "envs/sim/test_warp.py": "envs/sim/backends envs/sim/warp_device envs/sim/warp_kernels",
    "envs/small/test_gridworld.py": "envs/small/gridworld_optima envs/small/gridworld_policies",
    "envs/small/test_point.py": "envs/small/point_navigation envs/small/point_sparse",
    "envs/small/test_tabular_mdp.py": "envs/small/tabular_planning",
    "envs/test_environments.py": "envs/episodes envs/machine envs/mujoco/env envs/tasks",
    "envs/test_gym.py": "envs/numpy_worlds metarl/gymnasium_plugin",
    "envs/test_variants.py": "envs/mujoco/variant",
    "test_noise.py": "envs/noise",
}
"""Which test file has the tests of what: files without `.py`, or a whole room as `room/*`."""

FILES = sorted(
    file.relative_to(ROOT).with_suffix("").as_posix()
    for top in ("metarl", "envs")
    for file in (ROOT / top).rglob("*.py")
    if file.name != "__init__.py"
)
LISTED = {name: test for test, names in COVERED.items() for name in names.split()}


def own_test(file: str) -> str:
    """Where the test file of a file's name belongs: metarl/rl/losses -> rl/test_losses.py, envs/gym
    -> envs/test_gym.py."""
    room, _, name = file.removeprefix("metarl/").rpartition("/")
    return f"{room}/test_{name}.py".removeprefix("/")


def covering(file: str, listed: dict[str, str]) -> str | None:
    """The test file that `listed` gives for a file or for its room."""
    return listed.get(file) or listed.get(f"{file.rpartition('/')[0]}/*")


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_a_test_file_of_its_name_or_says_which_one_covers_it(file: str) -> None:
    own, listed = own_test(file), covering(file, LISTED)
    if (ROOT / "tests" / own).exists():
        assert listed in (None, own), f"{file} has tests/{own} now: take it out of COVERED"
    else:
        assert listed, f"write tests/{own}, or say in COVERED which test file has its tests"


def test_what_is_listed_exists() -> None:
    assert [test for test in COVERED if not (ROOT / "tests" / test).exists()] == []
    rooms = {f"{file.rpartition('/')[0]}/*" for file in FILES}
    assert [name for name in LISTED if name not in FILES and name not in rooms] == []
    assert len(LISTED) == sum(len(names.split()) for names in COVERED.values()), (
        "a file is listed twice"
    )


def test_places_of_tests_are_those_of_their_files() -> None:
    assert own_test("metarl/rl/data/collect") == "rl/data/test_collect.py"
    assert own_test("metarl/noise") == "test_noise.py"
    assert own_test("envs/small/point") == "envs/small/test_point.py"
    assert (
        covering("a/b", {"a/*": "test_a.py"}) == "test_a.py"
        and covering("a/b/c", {"a/*": "test_a.py"}) is None
    )


def test_only_tests_and_their_settings_lie_beside_the_rooms() -> None:
    """What several tests use is in tests/support."""
    apart = {"conftest.py", "cases.py", "record.py"}
    found = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if "support" not in path.relative_to(ROOT).parts
    ]
    assert [
        path for path in found if not path.name.startswith("test_") and path.name not in apart
    ] == []
