"""What a user types, and how it becomes a run: the commands, and the only place that knows Hydra and OmegaConf.

Read `commands/train.py` first: a whole training on one screen. Then the way from typed words to objects: `main` runs a command
and ends it with a short message after a mistake, `overrides` checks what was typed, `allowed` and `kinds` say what a key may be,
`configs` reads the folder configs/, `helptext` writes --help. `build` and `fewshot_build` make the objects of a run, and bring
checkpoints back; `strangers` checks first what a file from elsewhere may hold. `run_folder` finds or makes the folder of a
run, `sweep` and `comparison` see to several runs. `evaluation`, `filming` and `fewshot_report` hand a trained learner to
metarl/report. `words` and `console` help to read and to print. `benchmarks/` is what the command `benchmark` measures.

A user's own folder `envs` may come first on Python's path. Here `envs` is always metarl's.
"""

from metarl.envs_package import take_ours

take_ours()
