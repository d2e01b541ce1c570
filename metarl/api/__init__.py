"""metarl from Python, for notebooks: the same words as the command line, and no Hydra.

Read `training` first: `train` and `train_fewshot` give a run. `loading` brings a trained agent back
from a run, a file or the zoo. `agent` is what one does with it: evaluate, render, adapt to an
environment of one's own. `given` checks what the user hands over. `playing` lets the agent play
there, and `policy` is what comes of it: a function from observations to actions, which `export`
writes into a file that runs without metarl. `fitting` is the same for few-shot learners. `results`
shows tables and videos in a notebook.

metarl/__init__.py imports this room when one of its names is asked for, so that `import metarl`
loads neither torch nor an environment.
"""

from metarl.api.agent import Agent
from metarl.api.fitting import FewShotAgent, Predictor
from metarl.api.loading import load
from metarl.api.policy import Policy
from metarl.api.training import Run, train, train_fewshot
from metarl.errors import Error, SettingError, UserError

__all__ = [
    "Agent",
    "Error",
    "FewShotAgent",
    "Policy",
    "Predictor",
    "Run",
    "SettingError",
    "UserError",
    "load",
    "train",
    "train_fewshot",
]
