import torch

from hagvig_lib.gates import add_gates, gate_parameters


def test_compiled_model_computes_the_same(name, build, images):
    model = add_gates(build(name, shallow=True)).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    output, expected = compiled(images), model(images)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    gradients = [p.grad.clone() for p in gate_parameters(model)]
    model.zero_grad()
    expected.sum().backward()
    for mine, theirs in zip(gradients, gate_parameters(model), strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-4, atol=1e-4)


def test_exported_model_computes_the_same(name, build, images):
    model = add_gates(build(name, shallow=True)).eval()
    exported = torch.export.export(model, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), model(images))
