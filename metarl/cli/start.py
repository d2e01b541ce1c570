"""What every training does before it makes anything, with one seed or several, in one process or
several."""

import torch

from metarl.cli import build, evaluation, falling, placement, strangers
from metarl.cli.run_folder import AskedRun
from metarl.rl.evaluation.curve import check_num_tasks


def prepare(run: AskedRun) -> torch.device:
    """Checks what the run asks for at its end, says what its user should know of it, and settles in
    its config where the physics is. Returns: where the learner computes.

    Raises: UserError or SettingError for what can't be evaluated or isn't on this machine.
    """
    config = run.config
    evaluation.check(config, **config.evaluation)
    if (num_tasks := config.evaluation.num_tasks) is not None:
        with build.one_world(config) as one:
            check_num_tasks(one.prior, num_tasks)
    if run.resume_from is None:
        strangers.say_what_is_called(config)
    falling.say_how_far(config)
    return placement.settle(config)
