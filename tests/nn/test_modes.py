import pytest
from torch import nn

from metarl.nn.modes import check_has_one_mode


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (nn.Dropout(0.5), r"dropout=0\.5 in 1 \(Dropout\)"),
        (nn.BatchNorm1d(3), r"batch norm in 1 \(BatchNorm1d\)"),
        (nn.GRU(3, 3, num_layers=2, dropout=0.1), r"dropout=0\.1 in 1 \(GRU\)"),
    ],
)
def test_layers_that_act_otherwise_in_training_are_named(layer: nn.Module, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_has_one_mode(nn.Sequential(nn.Linear(3, 3), layer))


def test_layers_that_could_but_do_not_are_taken() -> None:
    check_has_one_mode(nn.Sequential(nn.Dropout(0.0), nn.LayerNorm(3), nn.GRU(3, 3)))
    check_has_one_mode(nn.TransformerEncoderLayer(4, 2, dropout=0.0))
