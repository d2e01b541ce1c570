"""The commands, a file each: its docstring is what `--help` shows, `run` does the work, `main` is called from outside.

scripts/train.py and the installed `metarl-train` both call `train.main`; the others are called likewise.
"""
