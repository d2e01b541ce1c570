"""What a user types, and how it becomes a run. The only room that knows Hydra and OmegaConf.

Read `commands` first, and there `train`: a whole training on one screen. Then the way from typed
words to a configuration: `main` runs a command and ends it with a short message after a mistake,
`overrides` checks what was typed, `allowed` and `kinds` say what a key may be, `configs` reads the
folder configs/, `helptext` writes --help.

Then the way from a configuration to objects: `build` and `fewshot_build` make what a run needs, and
`placement` decides on which simulator and device it runs. `checkpoints` brings a run back (for
few-shot learning `fewshot_build` does); `strangers` checks first what a file from elsewhere may
hold, and `moved` knows where what it names is now. `origins` is what a result says of where it
comes from, `own_code` what it says of code that isn't metarl's. `run_folder` makes the folder of a
run, or finds an old one to go on with; `run_config` is the configuration in it, `resumed_config`
what of it may be changed on the way; `transcript` keeps in it what the commands said. `start` is
what every training checks and says before it begins; `falling` says which of its steps become too
small.

`several` trains several seeds of one configuration at once, `processes` one run in several
processes.

While a run goes: `held_out` makes evaluations on the way, `tracking` the loggers.

What comes after training: `evaluation`, `fewshot_report` and `filming` hand a trained learner to
metarl/report. `sweep` sees to several runs (-m), `launchers` to where they run, `comparison` sets
them side by side, `sweepers` says how good each was to who searches for settings.

`session` runs a command from Python, for metarl/api.

Small things: `words` for text as a user types it, `console` for where it is printed, `outputs` for
where results are written. `benchmarks` is what the command of that name measures.

A user's own folder `envs` may come first on Python's path. In a command, `envs` is metarl's.
"""

from metarl.envs_package import take_ours

take_ours()
