"""What a user can do wrong, as exceptions. Commands print their message and end with exit code 2;
all else is our bug."""

from functools import partial


class Error(Exception):
    """What all of these are: `except metarl.Error` catches a user's mistakes and no bug of ours."""


class UserError(Error):
    """What the user asked for can't be done; the message names the value and what was expected, in
    a line or two."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook."""
        return _as_a_line(self)


class SettingError(Error, ValueError):
    """A setting has a value that it can't have, or doesn't go with another; the message names it
    and what was expected.

    It is raised where settings come in: by constructors, and by functions that check settings for
    them. A plain ValueError is for callers in code (a tensor of the wrong shape, say); in a command
    it means a bug.
    """


class BufferOverflow(SettingError, FloatingPointError):
    """More happened in a world than a simulator has memory for, so that its physics is wrong: a
    setting to whoever steps an environment, to a training loop an iteration to be undone."""


class NonFiniteAction(Error, ValueError, FloatingPointError):
    """An action that is NaN or infinite, or that no probabilities choose: a wrong argument to
    whoever steps an environment, divergence to a training loop."""


class NothingLearnable(Error, ValueError, FloatingPointError):
    """No step can be learned from, because every episode diverged at its first or had none: a wrong
    argument to whoever hands over episodes, divergence to a training loop."""


def show_as_a_line(error: SettingError) -> None:
    """Lets IPython show the error as it does a UserError. Where it comes from a command the place in
    our code says nothing; where it comes from a user's own call the place is what he looks for."""
    error._render_traceback_ = partial(_as_a_line, error)  # type: ignore[attr-defined]


def _as_a_line(error: Exception) -> list[str]:
    return [f"{type(error).__name__}: {error}"]


def misfit(model: object, expected: type, made_by: str) -> SettingError:
    """What to raise for a model that the algorithm can't use. Args: made_by: the `model=` that
    makes a fitting one."""
    return SettingError(
        f"model is a {type(model).__name__}; expected a {expected.__name__}, as model={made_by} "
        "makes it"
    )
