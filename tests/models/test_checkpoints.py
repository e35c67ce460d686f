"""Released checkpoints: names, files, faults, timm's three ways to load."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from vig_reference import MODELS, OFFICIAL

from hagvig_lib.gates import gate_table
from hagvig_lib.models.checkpoints import (
    from_official,
    read_checkpoint,
    to_official,
)
from hagvig_lib.models.official_names import official_names

PLAIN, HIERARCHICAL = "vig_tiny_patch16_224", "vig_h_tiny"
# A block of 32 channels, and in ViG-H one of 64.
SMALL = {
    PLAIN: {"dim": 32, "depth": 1, "heads": 2, "num_classes": 5},
    HIERARCHICAL: {
        "dims": (32, 64),
        "depths": (1, 1),
        "heads": (1, 2),
        "num_classes": 5,
    },
}


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


def build(name, **options):
    return timm.create_model(name, **SMALL[name] | options)


def official(name, seed=1):
    """A small model's weights under the released names."""
    torch.manual_seed(seed)
    return to_official(build(name).state_dict(), name, **SMALL[name])


def assert_holds(model, weights, name):
    """The model has exactly these official weights."""
    theirs = official_names(model.state_dict())
    state = {theirs[key]: value for key, value in model.state_dict().items()}
    gates = {key for key in state if key.endswith(".gate.logits")}
    assert state.keys() - gates == weights.keys()
    for key in weights:
        assert torch.equal(state[key], weights[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_names_and_shapes_are_those_of_the_released_code(name):
    shapes = dict(OFFICIAL["models"][name]["names_shapes"])
    with torch.device("meta"):
        weights = {key: torch.empty(shapes[key]) for key in shapes}
        model = timm.create_model(MODELS[name])
    ours = from_official(weights, MODELS[name])
    model.load_state_dict(ours, strict=True)
    back = to_official(ours, MODELS[name])
    assert back.keys() == shapes.keys()
    assert all(back[key] is weights[key] for key in back)


def test_linear_layers_may_be_convolutions(name):
    weights = official(name)
    convolutions = {
        key: value[..., None, None] if value.ndim == 2 else value
        for key, value in weights.items()
    }
    model = build(name)
    model.load_state_dict(from_official(convolutions, name, **SMALL[name]))
    assert_holds(model, weights, name)


def without(weights):
    del weights["head.weight"], weights["norm.weight"]
    for gate in ("g", "l"):
        del weights[f"blocks.0.attn.{gate}_norm.weight"]


def with_more(weights):
    weights["blocks.1.attn_norm.weight"] = torch.ones(32)


def with_another_head(weights):
    weights["head.weight"] = torch.ones(7, 32)


def with_a_number(weights):
    weights["head.bias"] = 3


def of_another_family(weights):
    weights.clear()
    weights.update(official(HIERARCHICAL))


FAULTS = [
    (
        without,
        "4 missing: blocks.0.attn.g_norm.weight, blocks.0.attn.l_norm.weight, "
        "head.weight and 1 more",
    ),
    (with_more, "1 unexpected: blocks.1.attn_norm.weight)"),
    (with_another_head, "1 misshapen: head.weight is [7, 32], not [5, 32])"),
    (with_a_number, "1 misshapen: head.bias is no tensor, not [5])"),
    (of_another_family, "unexpected: classifier.head.bias, classifier.head."),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_fault_is_named_and_nothing_is_loaded(spoil, message):
    weights = official(PLAIN)
    spoil(weights)
    with pytest.raises(ValueError, match="no checkpoint of vig_tiny") as error:
        from_official(weights, PLAIN, **SMALL[PLAIN])
    assert message in str(error.value)
    model = build(PLAIN)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    # To the load hook the other family's names are just unknown.
    with pytest.raises((ValueError, RuntimeError)) as error:
        model.load_state_dict(weights, strict=True)
    assert message in str(error.value) or spoil is of_another_family
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


WIDE = {"dim": 64}
DEEP = {PLAIN: {"depth": 2}, HIERARCHICAL: {"depths": (1, 2)}}


@pytest.mark.parametrize(
    ("given", "sizes", "renamed", "name", "its_sizes"),
    [  # some names and shapes are those of the model, too
        (PLAIN, WIDE, True, HIERARCHICAL, {}),
        (PLAIN, WIDE, True, PLAIN, {}),
        *((kind, {}, False, kind, DEEP[kind]) for kind in DEEP),
        *((kind, DEEP[kind], False, kind, {}) for kind in DEEP),
    ],
)
def test_nothing_of_another_model_is_loaded(
    given, sizes, renamed, name, its_sizes
):
    torch.manual_seed(2)
    weights = build(given, **sizes).state_dict()
    if renamed:
        weights = to_official(weights, given, **SMALL[given] | sizes)
    model = build(name, **its_sizes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="no checkpoint of ViG"):
        model.load_state_dict(weights)
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_load_that_is_not_strict_takes_what_it_knows(name):
    weights = official(name)
    heads = [key for key in weights if "head." in key]
    rest = {key: weights[key] for key in weights if key not in heads}
    model = build(name)
    head = model.head.fc.weight.clone()
    faults = model.load_state_dict(rest | {"more": head}, strict=False)
    assert faults.missing_keys == ["head.fc.weight", "head.fc.bias"]
    assert faults.unexpected_keys == ["more"]
    loaded = {name: model.state_dict()[name] for name in ("norm.weight",)}
    names = official_names(model.state_dict())
    assert torch.equal(loaded["norm.weight"], weights[names["norm.weight"]])
    assert torch.equal(model.head.fc.weight, head)


def test_fault_in_our_names_is_named():
    weights = build(PLAIN).state_dict()
    del weights["blocks.0.norm1.weight"]
    weights["head.fc.bias"] = torch.ones(7)
    weights["blocks.0.ls1.gate.logits"] = torch.ones(32)
    with pytest.raises(ValueError, match="no checkpoint of vig") as error:
        to_official(weights, PLAIN, **SMALL[PLAIN])
    assert str(error.value).endswith(
        "(1 missing: blocks.0.norm1.weight; 1 unexpected: "
        "blocks.0.ls1.gate.logits; 1 misshapen: head.fc.bias is [7], not "
        "[5]): give that model's own file"
    )


@pytest.mark.parametrize(
    "packed",
    [
        lambda weights: weights,
        lambda weights: {"model": weights, "epoch": 299},
        lambda weights: {"model": {}, "model_ema": weights},
        lambda weights: {"model": weights, "model_ema": None},
        lambda weights: {"state_dict": {}, "state_dict_ema": weights},
        lambda weights: {"module." + key: weights[key] for key in weights},
    ],
)
def test_file_of_the_released_code_loads(name, packed, tmp_path):
    weights = official(name)
    path = tmp_path / "weights.pth"
    torch.save(packed(weights), path)
    read = read_checkpoint(path)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[key], weights[key]) for key in weights)
    assert_holds(build(name, checkpoint_path=str(path)), weights, name)


def test_safetensors_load(name, tmp_path):
    weights = official(name)
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    assert_holds(build(name, checkpoint_path=str(path)), weights, name)
    read = read_checkpoint(path)
    assert all(torch.equal(read[key], weights[key]) for key in weights)


def test_own_checkpoint_goes_on_loading(name, tmp_path):
    model = build(name)
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    twin = build(name, checkpoint_path=str(path))
    assert_holds(
        twin, to_official(model.state_dict(), name, **SMALL[name]), name
    )


def test_gated_model_loads_the_released_names(name, tmp_path):
    weights = official(name)
    path = tmp_path / "weights.pth"
    torch.save({"model": weights}, path)
    model = build_gated(name, checkpoint_path=str(path), gate_init=0.9)
    assert_holds(model, weights, name)
    assert gate_table(model).value.to_numpy() == pytest.approx(0.9)


def build_gated(name, **options):
    return timm.create_model(f"hag_{name}", **SMALL[name] | options)


def test_wrapped_model_loads_the_released_names(name):
    weights = official(name)
    wrapped = torch.nn.ModuleDict({"body": build(name)})
    wrapped.load_state_dict({f"body.{key}": weights[key] for key in weights})
    assert_holds(wrapped["body"], weights, name)


class Code:
    """Runs when it is unpickled, unless only weights are."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize("length", [0, 10, 1000, -1000, -10])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_truncated_file_is_refused(kind, length, tmp_path):
    path = tmp_path / f"weights.{kind}"
    save = {"pth": torch.save, "safetensors": save_file}[kind]
    save(official(PLAIN), path)
    cut(path, length)
    with pytest.raises(ValueError, match=rf"weights\.{kind} is truncated"):
        read_checkpoint(path)


def test_code_in_a_file_is_not_run(tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "weights.pth"
    torch.save({"model": official(PLAIN), "config": Code(trace)}, path)
    with pytest.raises(ValueError, match="more than weights"):
        read_checkpoint(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(Code(trace), protocol=2))
    with pytest.raises(ValueError, match="more than weights"):
        read_checkpoint(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have


def test_code_in_a_file_is_not_run_by_pretrained(
    tmp_path, monkeypatch, offline
):
    """Of older versions of timm, whose own readers would run it, neither."""
    from timm.models import _builder

    for reader in ("load_state_dict", "load_state_dict_from_hf"):
        monkeypatch.setattr(_builder, reader, pytest.fail)
    trace = tmp_path / "ran"
    content = {"model": {}, "config": Code(trace)}
    cached_file(tmp_path, content)
    torch.save(content, tmp_path / "weights.pth")
    for name, options in (
        (PLAIN, {"file": str(tmp_path / "weights.pth")}),
        (HIERARCHICAL, {}),
    ):
        with pytest.raises(ValueError, match="more than weights"):
            timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay=options,
                cache_dir=tmp_path,
            )
    assert not trace.exists()


def test_code_in_a_file_is_not_run_by_this_timm(tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "weights.pth"
    torch.save({"model": {}, "config": Code(trace)}, path)
    if version(timm.__version__) < version("1.0.31"):
        pytest.skip("this timm runs it, as the docstring says")
    with pytest.raises(RuntimeError, match="weights_only"):
        build(PLAIN, checkpoint_path=str(path))
    assert not trace.exists()


def version(text):
    return [int(part) for part in text.split(".")[:3]]


@pytest.mark.parametrize("content", [[1, 2], {"model": None}])
def test_file_without_a_state_dict_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="is no state dict"):
        read_checkpoint(path)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        read_checkpoint(tmp_path / "gone.pth")


# Pretrained: whole models, for the names state their sizes.


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub's cache with ViG-H-T in it, and its weights."""
    folder = tmp_path_factory.mktemp("hub")
    weights = whole(HIERARCHICAL)
    cached_file(folder, {"model": weights})
    return folder, weights


def cached_file(folder, content):
    """Puts ViG-H-T's file into a hub's cache."""
    repository = folder / "models--hustvl--ViG"
    for part in ("refs", "snapshots/1234"):
        (repository / part).mkdir(parents=True)
    (repository / "refs/main").write_text("1234")
    torch.save(content, repository / "snapshots/1234/vig_h_t_82p8acc.pth")


def whole(name):
    """All official weights of a model, small but for their first entries."""
    with torch.device("meta"):
        shapes = timm.create_model(name).state_dict()
    weights = {key: torch.zeros(value.shape) for key, value in shapes.items()}
    for index, tensor in enumerate(weights.values()):
        tensor.view(-1)[0] = index + 1
    return to_official(weights, name)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_published_file_is_loaded_from_the_hub(hub, offline):
    folder, weights = hub
    model = timm.create_model(HIERARCHICAL, pretrained=True, cache_dir=folder)
    assert_holds(model, weights, HIERARCHICAL)
    assert model.stages[0].blocks[0].attn.halving == "mean"
    assert "state_dict" not in model.pretrained_cfg


def test_published_file_is_adapted(hub, offline):
    folder, weights = hub
    model = timm.create_model(
        f"hag_{HIERARCHICAL}",
        pretrained=True,
        cache_dir=folder,
        num_classes=3,
        in_chans=1,
    )
    stem = weights["patch_embed.0.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.stem[0].weight.data, stem)
    assert model.head.fc.weight.shape == (3, 768)
    names = official_names(model.state_dict())
    norm = model.state_dict()["norm.weight"]
    assert torch.equal(norm, weights[names["norm.weight"]])
    assert (gate_table(model).value < 0.999).any()


def test_other_names_have_no_published_file():
    known = [
        name
        for name in MODELS.values()
        if timm.get_pretrained_cfg(name).has_weights
    ]
    assert known == ["vig_h_tiny", "vig_h_base"]
    for name in {*MODELS.values()}.difference(known):
        message = rf"file of {name} is known: use .* or pretrained_cfg_overlay"
        with pytest.raises(ValueError, match=message):
            timm.create_model(name, pretrained=True)


@pytest.mark.parametrize(
    ("options", "halving"),
    [({}, "official-eval"), ({"halving": "mean"}, "mean")],
)
def test_pretrained_plain_model_halves_as_released(
    options, halving, tmp_path, caplog
):
    weights = whole(PLAIN)
    path = tmp_path / "weights.pth"
    torch.save({"model": weights}, path)
    model = from_file(PLAIN, path, **options)
    assert_holds(model, weights, PLAIN)
    assert {block.attn.halving for block in model.blocks} == {halving}
    said = f"{PLAIN} has halving='official-eval', as these weights were"
    assert (said in caplog.text) == (not options)


def from_file(name, path, **options):
    overlay = {"file": str(path)} | options.pop("overlay", {})
    return timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, **options
    )


def test_other_classes_and_features_take_the_released_weights(tmp_path):
    weights = whole(PLAIN)
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(ValueError, match="load it by pretrained=True"):
        timm.create_model(PLAIN, checkpoint_path=str(path), num_classes=3)
    fine = from_file(PLAIN, path, num_classes=3, in_chans=1)
    features = from_file(PLAIN, path, features_only=True)
    for blocks in (fine.blocks, features.model.blocks):
        loaded = blocks[11].attn.proj.weight
        assert torch.equal(loaded, weights["blocks.11.attn.o_proj.weight"])
        assert blocks[0].attn.halving == "official-eval"
    small = {key: weights[key] for key in weights if "head." not in key}
    small |= {"head.weight": torch.ones(3, 192), "head.bias": torch.ones(3)}
    torch.save(small, path)
    with pytest.raises(ValueError, match="'num_classes': its own"):
        from_file(PLAIN, path, num_classes=3)
    model = from_file(PLAIN, path, num_classes=3, overlay={"num_classes": 3})
    assert model.head.fc.weight.all()


def test_pretrained_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    for content in (whole(HIERARCHICAL), {"fc.weight": torch.ones(3, 3)}):
        torch.save({"model": content}, path)
        with pytest.raises(ValueError, match=f"no checkpoint of {PLAIN}"):
            from_file(PLAIN, path)


def test_pretrained_file_of_ours_is_loaded(tmp_path):
    weights = from_official(whole(PLAIN), PLAIN)
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    model = from_file(PLAIN, path)
    state = model.state_dict()
    assert all(torch.equal(state[key], weights[key]) for key in weights)
    # Our training halves once, whichever way the weights come back.
    assert {block.attn.halving for block in model.blocks} == {"mean"}


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}])
def test_truncated_weights_of_ours_are_refused(options, tmp_path):
    """timm would load a part where classes are others."""
    weights = from_official(whole(PLAIN), PLAIN)
    del weights["blocks.11.norm1.weight"]
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"1 missing: blocks\.11\.norm1"):
        from_file(PLAIN, path, **options)
