import pytest
import torch

from hagvig_lib.gates import add_gates, gate_parameters


@torch.no_grad()
def test_compiled_model_computes_the_same(name, build, images):
    model = add_gates(build(name, shallow=True)).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "resnet18"]
)
def test_compiled_model_has_the_same_gate_gradients(name, build, images):
    model = add_gates(build(name, shallow=True)).double().eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    gates = gate_parameters(model)
    expected = torch.autograd.grad(model(images.double()).sum(), gates)
    gradients = torch.autograd.grad(compiled(images.double()).sum(), gates)
    torch.testing.assert_close(gradients, expected)


@torch.no_grad()
def test_exported_model_computes_the_same(name, build, images):
    model = add_gates(build(name, shallow=True)).eval()
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))
