"""However a batch is cut, the routed step is that of the whole batch."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_models import CASES, Crossing, bright_and_dark, router, vit
from torch import nn

from hagvig_lib.gates import HardAttentionGate
from hagvig_lib.routing import _average

WORKER = Path(__file__).with_name("gloo_worker.py")
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}  # sums in another order, 3 steps


def train(model, images, labels, **options):
    routed = router(model, **options)
    for _ in range(3):
        routed.step(images, labels)
    return model.state_dict()


@pytest.fixture(scope="module")
def whole():
    """State of every case after three steps on the whole batch."""
    return {
        name: train(build(), *batch(), accumulate=1 + (name == "crossing"))
        for name, (build, batch) in CASES.items()
    }


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder), str(rank)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=300)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_training_moves_far_more_than_the_tolerance(name, whole):
    before = CASES[name][0]().state_dict()
    moved = max((whole[name][k] - before[k]).abs().max() for k in before)
    assert moved > 1000 * TOLERANCE["atol"]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_unequal_micro_batches_equal_one_batch(name, whole):
    build, batch = CASES[name]
    images, labels = batch()
    assert len(images) % 4, "the parts shall differ in size"
    parts = train(build(), images, labels, accumulate=4)
    torch.testing.assert_close(parts, whole[name], **TOLERANCE)


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_equal_one(name, whole, two_processes):
    assert len({result["process"] for result in two_processes}) == 2
    for result in two_processes:
        state = result["states"][name]
        torch.testing.assert_close(state, whole[name], **TOLERANCE)


def test_micro_batches_exchange_weight_gradients_once_a_step(two_processes):
    for result in two_processes:  # three steps, small enough for one bucket
        assert result["exchanges"]["vit"] == 3


def test_processes_end_with_the_same_bits(two_processes):
    first, second = (result["states"] for result in two_processes)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_crossing_needs_the_other_process():
    """Each half of its batch leaves one gate without any gradient."""
    images, labels = bright_and_dark()
    model = Crossing()
    router(model).step(images[:4], labels[:4])
    assert torch.equal(model.dark.logits, Crossing().dark.logits)
    assert not torch.equal(model.bright.logits, Crossing().bright.logits)


def test_gate_that_no_process_used_stays_without_gradient():
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    used, unused = (HardAttentionGate(3, -1).logits for _ in range(2))
    used.grad = torch.arange(3.0)
    try:
        _average([used, unused], None)
    finally:
        dist.destroy_process_group()
    assert used.grad.tolist() == [0, 1, 2]
    assert unused.grad is None  # Adam would move it for a zero


def test_losses_are_means_of_the_whole_batch():
    images, labels = CASES["vit"][1]()
    whole = router(vit()).step(images, labels)
    parts = router(vit(), accumulate=4).step(images, labels)
    torch.testing.assert_close(tuple(parts), tuple(whole))
    assert not parts.gate.requires_grad


@pytest.mark.parametrize("compiled", [False, True])
def test_data_parallel_engine_changes_nothing(compiled):
    images, labels = CASES["vit"][1]()
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Flatten(), nn.Linear(768, 4), HardAttentionGate(4, -1)
    )
    inside = copy.deepcopy(plain)
    engine = nn.DataParallel(inside)
    if compiled:
        engine = torch.compile(engine, backend="eager")
    routed = router(inside, engine)
    assert routed._inner is inside
    routed.step(images, labels % 4)
    router(plain).step(images, labels % 4)
    torch.testing.assert_close(inside.state_dict(), plain.state_dict())


@pytest.mark.parametrize("structure", [dict, tuple])
def test_inputs_may_be_dicts_and_tuples(structure):
    images, labels = CASES["vit"][1]()

    class Streams(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = vit()

        def forward(self, streams):
            rgb, extra = streams.values() if structure is dict else streams
            return self.net(rgb + extra)

    streams = {"rgb": images, "extra": images}
    if structure is tuple:
        streams = tuple(streams.values())
    model, plain = Streams(), vit()
    router(model, accumulate=3).step(streams, labels)
    router(plain, accumulate=3).step(2 * images, labels)
    torch.testing.assert_close(model.net.state_dict(), plain.state_dict())
