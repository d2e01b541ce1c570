"""Ctrl-C while a command is still on its way to its work, above all while Python imports what it
needs. Once it works, metarl/cli/main.py ends it.
"""

import sys
from pathlib import Path
from types import TracebackType

_SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def end_commands_quietly() -> None:
    """Lets a command of metarl end with a line and exit code 130, where other programs that import
    metarl show where they were. It is a command if it is an installed `metarl-...`, or one of
    scripts/ of this checkout."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:  # a notebook, or code typed in
        return
    program = Path(file).absolute()
    if program.name.startswith("metarl-") or program.parent.resolve() == _SCRIPTS:
        sys.excepthook = _say_interrupted


def _say_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted", file=sys.stderr)
    raise SystemExit(130)
