"""What the definition of a problem tells besides its hash."""

from typing import Any

import pytest

from metarl.rl.spec import EnvSpec


@pytest.mark.parametrize(
    ("definition", "changes"),
    [
        ({"reward": "x"}, {}),
        ({"fails_at_step": 100, "reward": "x"}, {"fails": 100}),
        ({"fails_at_step": None, "drops_at_step": True}, {}),
        ({"settings": {"mass_doubles_at_step": 7}}, {"mass_doubles": 7}),
        ({"settings": None}, {}),
    ],
)
def test_a_step_at_which_something_happens_is_told_by_its_name(
    definition: dict[str, Any], changes: dict[str, int]
) -> None:
    spec = EnvSpec(name="x", family="x", variant="default", horizon=200, definition=definition)
    assert spec.changes == changes
