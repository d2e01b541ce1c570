"""Words as a user types them and reads them: text that survives a shell and Hydra's grammar, and
the names of our commands."""

import itertools
import shlex
import sys
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from metarl.run import distributed


def hydra_text(text: str) -> str:
    """The text as the value of an override that Hydra reads as this text: as it is where that will
    do, else in quotes."""
    try:
        if (
            OverridesParser.create().parse_override(f"key={text}").value() == text
            and "${" not in text
        ):
            return text
    except HydraException:
        pass
    return QuotedString(text=text.replace("${", "\\${"), quote=Quote.double).with_quotes()


def command_line(script: str, **words: str) -> str:
    """A command to copy into a shell, as the present one was called: `metarl-train` after
    metarl-train, metarl-fewshot and so on, else `python scripts/train.py`; with the same folder of
    the user's configs."""
    called = Path(sys.argv[0])
    if called.name.startswith("metarl-"):
        command = f"metarl-{script}"
    else:
        folder = called.parent if called.suffix == ".py" else Path("scripts")
        # The other commands are done in one process.
        program = distributed.launcher() if script == "train" else "python"
        command = f"{program} {shlex.quote(str(folder / f'{script}.py'))}"
    settings = [f"{name}={hydra_text(value)}" for name, value in words.items()]
    return " ".join([command, *map(shlex.quote, [*_config_dir(), *settings])])


def _config_dir() -> list[str]:
    """The present command's words for a folder of the user's configs, if it has any."""
    flags = ("--config-dir", "-cd")
    for word, after in itertools.pairwise([*sys.argv[1:], ""]):
        if word in flags:
            return [flags[0], after]
        if word.startswith(f"{flags[0]}="):
            return [flags[0], word.partition("=")[2]]
    return []


def called() -> str:
    """The present command, to be copied into a shell."""
    program = Path(sys.argv[0])
    if program.suffix == ".py":
        command = f"{distributed.launcher()} {shlex.quote(str(program))}"
    else:
        command = program.name
    # Without what main.py adds.
    words = [word for word in sys.argv[1:] if not word.lstrip("+").startswith("hydra")]
    return " ".join([command, *map(shlex.quote, words)])


def one_line(message: object) -> str:
    """The message without its line breaks, and without what would move a terminal's cursor or
    hide other lines."""
    return printable(" ".join(str(message).split()))


def printable(text: str) -> str:
    """The text with all that isn't a sign or a space written out, as \\x1b."""
    return "".join(
        sign if sign.isprintable() or sign == "\t" else sign.encode("unicode_escape").decode()
        for sign in text
    )
