"""Models: their file of weights, their seeds, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from redoubt.errors import RedoubtError
from redoubt.models import classifier

SHAPE = (1, 28, 28)


def test_weights_and_buffers_come_back(mlp, tmp_path, make_entry, digit_images):
    classifier.save(mlp, tmp_path / "weights.safetensors")
    fresh = classifier.build(make_entry("mlp", 0.2), SHAPE, 10).eval()
    assert not torch.equal(fresh(digit_images[0][:3]), mlp(digit_images[0][:3]))
    classifier.load(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh(digit_images[0][:3]), mlp(digit_images[0][:3]))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_forward_is_network_after_preprocessing(mlp, digit_images):
    images = digit_images[0][:3]
    assert torch.equal(mlp(images), mlp.network(255 * images - mlp.preprocessing.mean))


def test_bytes_do_not_depend_on_memory_format(lenet, tmp_path):
    classifier.save(lenet, tmp_path / "a")
    classifier.save(lenet.to(memory_format=torch.channels_last), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_seeds_follow_from_the_identity():
    draws = []
    for parts in (("a", 1), ("a", 1), ("a", 2), ("a1",)):
        generator = classifier.seed_everything(*parts)
        draws.append((torch.rand(1).item(), torch.rand(1, generator=generator).item()))
    assert draws[0] == draws[1] and draws[0][0] == draws[0][1]
    assert len(set(draws)) == 3


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda state: {name: t for name, t in state.items() if name != "network.fc1.bias"},
            "fc1.bias is absent",
        ),
        (
            lambda state: state | {"network.fc1.bias": torch.zeros(7)},
            r"fc1.bias is \(7,\), .* asks for \(100,\)",
        ),
        (lambda state: state | {"network.more": torch.zeros(7)}, "network.more .* asks for none"),
        (
            lambda state: state | {"network.fc1.bias": torch.full((100,), float("nan"))},
            "fc1.bias is not finite",
        ),
    ],
)
def test_other_tensors_are_refused(harm, message, mlp, tmp_path):
    safetensors.torch.save_file(harm(dict(mlp.state_dict())), tmp_path / "w.safetensors")
    before = {name: tensor.clone() for name, tensor in mlp.state_dict().items()}
    with pytest.raises(RedoubtError, match=message) as caught:
        classifier.load(mlp, tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in mlp.state_dict().items())


def test_adopting_fills_the_preprocessing_and_hands_over_the_rest(mlp, tmp_path, make_entry):
    classifier.save(mlp, tmp_path / "weights.safetensors")
    fresh, seen = classifier.build(make_entry("mlp", 0.2), SHAPE, 10), {}
    before = fresh.network.fc1.weight.clone()
    classifier.adopt(fresh, tmp_path / "weights.safetensors", lambda network, state: seen.update({network: state}))
    assert torch.equal(fresh.preprocessing.mean, mlp.preprocessing.mean)
    assert torch.equal(fresh.network.fc1.weight, before)
    (state,) = seen.values()
    assert list(seen) == [fresh.network] and state.keys() == mlp.network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in mlp.network.state_dict().items())


def test_adopting_what_does_not_fit_is_one_line(mlp, lenet, tmp_path):
    state = dict(mlp.state_dict())
    del state["preprocessing.mean"]
    safetensors.torch.save_file(state, tmp_path / "bare")
    classifier.save(lenet, tmp_path / "lenet")
    for name, message in (("bare", "tensor mean is absent"), ("lenet", "do not fit .*fc3"), ("none", "no readable")):
        with pytest.raises(RedoubtError, match=message) as caught:
            classifier.adopt(mlp, tmp_path / name, lambda network, own: network.load_state_dict(own))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_model_is_built_with_what_its_defense_changes(make_entry):
    entry = make_entry(defense="bounded-relu", parameters={"bound": 2.5})
    kinds = {type(module) for module in classifier.build(entry, SHAPE, 10).network.modules()}
    assert torch.nn.Hardtanh in kinds and torch.nn.ReLU not in kinds
    entry["defense"] = make_entry(defense="deepdefense", start="tiny-model")["defense"]
    assert torch.nn.ReLU in {type(module) for module in classifier.build(entry, SHAPE, 10).network.modules()}


def test_building_a_model_loads_no_defense_that_changes_nothing(make_entry):
    entry = make_entry(defense="deepdefense", start="tiny-model")
    script = (
        "import sys; from redoubt.models import classifier; "
        f"classifier.build({entry!r}, {SHAPE}, 10); "
        "print([name for name in sys.modules if 'redoubt.defenses' in name])"
    )
    source = str(Path(classifier.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100, b"PK\x03\x04 not safetensors at all"])
def test_unreadable_weights_are_refused(content, mlp, tmp_path):
    if content is not None:
        (tmp_path / "w").write_bytes(content)
    with pytest.raises(RedoubtError, match="no readable weights"):
        classifier.load(mlp, tmp_path / "w")


def test_weights_that_are_not_finite_are_never_written(mlp, tmp_path):
    with torch.no_grad():
        mlp.network.fc2.weight[0, 0] = float("inf")
    with pytest.raises(RedoubtError, match=r"network\.fc2\.weight is not finite"):
        classifier.save(mlp, tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir())
