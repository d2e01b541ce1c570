"""Words for a name that there isn't."""

import pytest

from metarl.choices import check_choice, closest, did_you_mean, expected
from metarl.errors import SettingError

MANY = ["basic", "joblib", "submitit_local", "ray"]


def test_few_names_are_all_there_is_to_say() -> None:
    assert expected("gpu", ["cpu"]) == "expected cpu"
    assert expected("gpu", ["cpu", "warp"]) == "expected cpu or warp"
    assert expected("a", ["tanh", "relu", "elu"]) == "expected tanh, relu or elu"


def test_of_many_names_the_one_that_was_meant_is_asked_for() -> None:
    listed = "expected one of basic, joblib, submitit_local, ray"
    assert expected("job_lib", MANY) == f"{listed}; did you mean joblib?"
    assert expected("slurm cluster", MANY) == listed
    assert expected(7, MANY) == listed


def test_letters_and_what_stands_around_a_name_do_not_hide_it() -> None:
    assert closest(" JobLib/", MANY) == "joblib"
    assert closest("rl2_PPO", ["maml_ppo", "RL2_PPO"]) == "RL2_PPO"
    assert closest("", MANY) is None
    assert did_you_mean("x", []) == ""


def test_a_choice_is_checked_by_its_name() -> None:
    check_choice("activation", "tanh", {"tanh": 1, "relu": 2})
    with pytest.raises(SettingError, match=r"^activation 'tan': expected tanh or relu$"):
        check_choice("activation", "tan", iter(("tanh", "relu")))
