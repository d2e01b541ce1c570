"""The commands of scripts/ as an importable package, for the console entry points and for scripts that share code.

A wheel has the files of scripts/ in this folder. In the source tree they stay in scripts/, which is where we look then.
"""

from pathlib import Path

from metarl.envs_package import take_ours

take_ours()
_source = Path(__file__).resolve().parents[2] / "scripts"
if (_source / "cli.py").is_file():
    __path__.append(str(_source))
