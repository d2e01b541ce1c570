"""Every key of every command has a kind: a type and a range. Wrong values are generated for all of
them and refused in a line."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from metarl.cli import overrides
from metarl.cli.allowed import ALLOWED, allowed
from metarl.cli.configs import CONFIGS, choices, comments, composed, leaves, read
from metarl.cli.kinds import (
    Bounds,
    Fixed,
    Flag,
    Integer,
    Kind,
    ListOf,
    Number,
    OneOf,
    OneOfOrOwn,
    OrNull,
    Pattern,
    Place,
    Target,
    Word,
    like,
)
from metarl.errors import UserError

FOLDERS = [CONFIGS]
COMMANDS = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
Case = tuple[str, str, str]  # a command, the choice that it is called with (or ""), a key


@cache
def composed_once(command: str, words: tuple[str, ...]) -> Any:
    return composed(command, list(words), FOLDERS)


@cache
def cases() -> dict[Case, Kind | None]:
    """Each key of each command, and again under each choice that brings it or gives it another
    owner."""
    found: dict[Case, Kind | None] = {}
    seen = set()
    for command in COMMANDS:
        groups = composed_once(command, ())[1]
        # Experiments bring no keys of their own, and all commands have the same environments.
        asked = [
            group
            for group in groups
            if group != "experiment" and (group != "env" or command == "train")
        ]
        for choice in [
            "",
            *(f"{group}={name}" for group in asked for name in choices(group, FOLDERS, command)),
        ]:
            config = composed_once(
                command, (choice,) if choice and not choice.startswith("env=") else ()
            )[0]
            if choice.startswith(
                "env="
            ):  # Without Hydra, which takes a tenth of a second for each.
                config = config | {
                    "env": read(CONFIGS / "env" / f"{choice.removeprefix('env=')}.yaml")
                }
            for key in leaves(config):
                kind = allowed(key, config, command)
                if (mark := (command, key, repr(kind))) not in seen:
                    seen.add(mark)
                    found[command, choice, key] = kind
    return found


def own(case: Case) -> bool:
    """Whether the key is Hydra's: `_target_`, `_partial_`."""
    return case[2].split(".")[-1].startswith("_")


def test_every_key_of_every_command_has_a_kind() -> None:
    assert [case for case, kind in cases().items() if kind is None and not own(case)] == []


def test_every_kind_is_of_a_key() -> None:
    names = {key.split(".")[-1] for _, _, key in cases()}
    assert {name.split(".")[-1] for name in ALLOWED} <= names


def test_keys_that_may_be_null_are_those_whose_comment_says_what_null_means() -> None:
    for (command, choice, key), kind in cases().items():
        if kind is not None:
            _, chosen = composed_once(command, (choice,) if choice else ())
            says = "null" in comments(command, chosen, FOLDERS).get(key, "")
            assert isinstance(kind, OrNull) == says, (command, choice, key)


def wrong(kind: Kind | None) -> Iterator[str]:
    """Values of every other type, and those just outside of the range."""
    yield from ("{a:1}", "[[1]]")
    match kind:
        case OrNull(kind=inner):
            yield from (word for word in wrong(inner) if word != "null")
            return
        case Integer(least=least, most=most):
            yield from ("abc", "1.5", "true", "[1]", str(most + 1), "-inf", "nan", "'7'")
            if least is not None:
                yield str(least - 1)
        case Number():
            yield from ("abc", "true", "[1]", "nan", "inf", "-inf", "'7'")
            if kind.least > -1e300:
                yield str(kind.least - 1e-6)
            if kind.most < 1e300:
                yield str(kind.most + 1e-6)
            yield from (str(bound) for bound in (kind.above, kind.below) if abs(bound) < 1e300)
        case Flag():
            yield from ("0", "1", "yes", "''", "[true]", "'true'")
        case OneOf():
            yield from ("0", "true", "''", "[a]", f"{kind.words[0]}_", kind.words[0].swapcase())
        case OneOfOrOwn():
            yield from ("0", "true", "''", "[a]", "adam", "{}", "{lr:1}", "{_target_:1}")
        case Word() | Pattern():
            yield from ("0", "1.5", "true", "[a]", "''", "' '")
            if isinstance(kind, Place):
                yield "~nobody_of_this_name/x"
        case ListOf(entry=entry, least=least):
            yield from ("abc", "1", "true", "{}")
            yield from (f"[{word}]" for word in wrong(entry))
            if least:
                yield "[]"
        case Bounds():
            yield from ("1", "abc", "[]", "[1]", "[2,1]", "[0,1,2]", "[a,b]", "[0,nan]")
        case Fixed() | Target():
            yield from ("1", "abc", "false", "[a]")
        case None:
            return
        case _:
            raise AssertionError(f"no wrong values for {kind}")
    yield "null"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """check_overrides with everything composed once only."""
    list_once = cache(lambda group, name: choices(group, FOLDERS, name))
    monkeypatch.setattr(
        overrides, "composed", lambda command, words, _: composed_once(command, tuple(words))
    )
    monkeypatch.setattr(overrides, "choices", lambda group, _, name=None: list_once(group, name))
    monkeypatch.setattr(overrides, "comments", lambda *_: {})

    def check(command: str, *words: str) -> list[str]:
        return overrides.check_overrides(
            command, [word for word in words if word], FOLDERS, required=False
        )

    return check


def message_of(check: Callable[..., list[str]], *words: str) -> str:
    """What is said of a command line; nothing if it passes."""
    try:
        check(*words)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_values_of_all_keys_are_refused_in_a_line(
    command: str, check: Callable[..., list[str]]
) -> None:
    wrongly_answered = []
    for (whose, choice, key), kind in cases().items():
        if whose != command:
            continue
        for word in wrong(kind if kind is not None else Fixed(None)):
            message = message_of(check, command, choice, f"{key}={word}")
            if not (message.startswith(f"{key}=") and "\n" not in message):
                wrongly_answered.append((choice, f"{key}={word}", message))
    assert wrongly_answered == []


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_that_a_command_needs_cannot_be_left_out(
    command: str, check: Callable[..., list[str]]
) -> None:
    accepted = []
    for whose, choice, key in cases():
        if whose == command:
            message = message_of(check, command, choice, f"~{key}")
            if not message:
                accepted.append(key)
            else:
                assert key in message and "\n" not in message
    assert all(
        key.startswith("env.") and key != "env.name" for key in accepted
    )  # They have defaults in Python, too.


@pytest.mark.parametrize("command", COMMANDS)
def test_groups_that_a_command_needs_cannot_be_left_out(
    command: str, check: Callable[..., list[str]]
) -> None:
    for group, choice in composed_once(command, ())[1].items():
        for word in (f"~{group}", f"{group}=null"):
            if choice is not None:
                assert (
                    message_of(check, command, word)
                    == f"{word}: {command} needs one of its {group} configs"
                )
            else:
                assert (
                    message_of(check, command, word) == f"{word}: leave it out to have no {group}"
                )


def test_a_word_where_a_list_is_expected_is_not_split_into_letters(
    check: Callable[..., list[str]],
) -> None:
    for command, key, word in (
        ("train", "algo.adapt_only", "log_std"),
        ("benchmark", "rows", "trpo"),
    ):
        with pytest.raises(
            UserError, match=rf"{key}={word}: expected a list .*; write {key}=\[{word}\]"
        ):
            check(command, f"{key}={word}")


def test_what_an_interpolation_becomes_is_checked_too(check: Callable[..., list[str]]) -> None:
    assert check("train", "iterations=${keep_checkpoints}")
    assert message_of(check, "train", "iterations=${nowhere}").startswith("iterations=${nowhere}: ")
    assert message_of(check, "train", "iterations=${device}").startswith(
        "iterations=auto: expected an integer"
    )


def test_kinds_of_unknown_keys_are_those_of_their_defaults() -> None:
    examples = {3: (4, 1.5), 0.5: (2, "a"), True: (False, 1), "a": ("b", 1)}
    for default, (right, not_right) in examples.items():
        assert like(default).fits(right) and not like(default).fits(not_right)
    assert like([1]).fits([]) and not like([1]).fits([1.5]) and like([]).fits(["a", 1])


def test_a_users_own_code_calls_things_as_it_likes() -> None:
    config: dict[str, Any] = {
        "env": {"name": "mine:make", "horizon": -1},
        "algo": {"_target_": "mine.A", "clip": {}},
    }
    assert allowed("env.horizon", config, "train") is None
    assert allowed("algo.clip", config, "train") is None
    config["algo"]["_target_"] = "metarl.rl.algorithms.maml_ppo.MamlPPO"
    assert allowed("algo.clip", config, "train") == Number(above=0)
