"""How a sweep (-m) shares out its runs: one after the other, in processes of this machine, or on a
cluster. That is done by Hydra's launchers; here stands what they need, and what a run of theirs
leaves to the others beside it."""

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metarl import threads
from metarl.choices import expected
from metarl.cli.sweep import BASIC, is_sweep
from metarl.errors import UserError
from metarl.threads import num_cores

NEEDS = {
    BASIC: None,
    "joblib": ("'metarl[joblib]'", "hydra_plugins.hydra_joblib_launcher"),
    "submitit_local": ("'metarl[submitit]'", "hydra_plugins.hydra_submitit_launcher"),
    "submitit_slurm": ("'metarl[submitit]'", "hydra_plugins.hydra_submitit_launcher"),
    "ray": ("hydra-ray-launcher", "hydra_plugins.hydra_ray_launcher"),
    "ray_aws": ("hydra-ray-launcher", "hydra_plugins.hydra_ray_launcher"),
}
"""The names of `hydra/launcher`, with what pip installs for each and the package that it is then."""

_SLURMS_SHARE = "SLURM_CPUS_PER_TASK"


def check(name: str, *, multirun: bool) -> None:
    """Raises: UserError for a launcher that there isn't, that isn't installed, or without a sweep."""
    if name not in NEEDS:
        raise UserError(f"hydra/launcher={name}: {expected(name, NEEDS)}")
    if not multirun:
        raise UserError(f"hydra/launcher={name}: launchers start the runs of a sweep; say -m, too")
    if (needs := NEEDS[name]) is not None and not is_installed(needs[1]):
        raise UserError(f"hydra/launcher={name} isn't installed: pip install {needs[0]}")
    if name == "submitit_slurm" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no srun; expected a machine of a Slurm cluster "
            "(submitit_local starts the same jobs on this machine)"
        )


def settings(name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that a launcher needs besides those of the user."""
    key = "hydra.launcher.ray.init.object_store_memory"
    if name != "ray" or any(word.lstrip("+").startswith(f"{key}=") for word in overrides):
        return []
    # Unless it is there the launcher sets a size of its own, which a cluster that runs refuses.
    return [f"++{key}=null"]


def is_by_itself() -> bool:
    """Tells whether this process does one run of a sweep, while another one has the sweep."""
    return is_sweep() and HydraConfig.get().runtime.choices["hydra/launcher"] != BASIC


def share_cores(config: DictConfig) -> None:
    """Leaves the cores of this machine to the other runs of a sweep that go on at the same time:
    torch and the simulator take this one's share, unless `sim.num_threads` says more."""
    if is_sweep() and (share := _share()) is not None:
        threads.WORKERS = share
        torch.set_num_threads(share)
        if "sim" in config and config.sim.num_threads is None:
            config.sim.num_threads = share


def _share() -> int | None:
    """How many cores a run of the present launcher has; None: all that its process may use."""
    launcher = HydraConfig.get().launcher
    kind = str(launcher._target_).rpartition(".")[2]
    cores = num_cores()
    if kind == "JoblibLauncher":
        # -1 means as many runs as cores, -2 one less.
        num_runs = launcher.n_jobs if launcher.n_jobs > 0 else cores + 1 + launcher.n_jobs
        return max(1, cores // max(1, num_runs))
    if kind == "LocalLauncher":  # submitit starts all runs at once, and doesn't say how many.
        return launcher.cpus_per_task or 1
    if kind == "SlurmLauncher" and _SLURMS_SHARE in os.environ:
        # Not every cluster keeps a job to its cores.
        return min(cores, int(os.environ[_SLURMS_SHARE]))
    if kind in ("RayLauncher", "RayAWSLauncher"):  # Ray counts cores, and keeps nobody to them.
        return max(1, int(launcher.ray.remote.get("num_cpus", 1)))
    return None


def is_installed(package: str) -> bool:
    """Tells whether Python finds a package, without importing it."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even its parent
        return False
