import torch
from torch import nn

from hagvig_lib.measure import costs


def test_costs_counts_what_linear_layers_do():
    models = {
        "linear": nn.Linear(3, 5).train(),
        "two": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)),
    }
    table = costs(models, torch.ones(7, 3), rounds=2)
    assert table.parameters.to_dict() == {"linear": 20, "two": 41}
    assert table.multiply_adds.to_dict() == {
        "linear": 7 * 3 * 5,
        "two": 7 * (3 * 4 + 4 * 5),
    }
    assert (table.seconds > 0).all()
    assert not models["linear"].training


def test_costs_counts_a_convolution_per_output_pixel():
    models = {"conv": nn.Conv2d(2, 4, 3, padding=1, bias=False)}
    table = costs(models, torch.ones(1, 2, 8, 8), rounds=1)
    assert table.multiply_adds["conv"] == 8 * 8 * 4 * 2 * 9
