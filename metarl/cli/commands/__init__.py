"""The commands, a file each. Its docstring is what `--help` shows, `run` does the work, `main` is
called from outside: by scripts/train.py and by the installed `metarl-train`, for instance.

Read `train` first. `fewshot` is the same for few-shot learners. `evaluate` and `render` measure and
film what was trained, `compare` sets finished runs side by side, `report` makes a page of them.
`benchmark` measures speed, `estimators` what estimators of the meta-gradient are worth. `zoo` packs
a finished run into a file that comes with metarl.
"""
