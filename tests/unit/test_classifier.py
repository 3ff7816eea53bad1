"""Models: their file of weights, their seeds, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from redoubt import device
from redoubt.errors import RedoubtError
from redoubt.models import classifier, weights
from redoubt.study.entries.base import Method

SHAPE = (1, 28, 28)


CPU = torch.device("cpu")


def saved(network, path):
    path.write_bytes(weights.encoded(network, path))
    return path


def test_weights_and_preprocessing_come_back_from_two_files(mlp, tmp_path, make_entry, publish, digit_images):
    files = publish(mlp, make_entry("mlp", 0.2), tmp_path)
    fresh, facts = weights.load_model(*files, CPU)
    assert torch.equal(fresh(digit_images[0][:3]), mlp(digit_images[0][:3])) and not fresh.training
    assert facts["preprocessing"]["name"] == "mean-image"
    assert set(safetensors.torch.load_file(files[0])) == set(mlp.network.state_dict())
    assert set(safetensors.torch.load_file(files[1])) == {"mean"}


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b[:-3] + b"\x07" + b[-2:]]
)
def test_a_damaged_preprocessing_file_is_one_line(harm, mlp, tmp_path, make_entry, publish):
    files = publish(mlp, make_entry("mlp", 0.2), tmp_path)
    files[1].write_bytes(harm(files[1].read_bytes()))
    with pytest.raises(RedoubtError, match=r"no readable preprocessing .*; delete it and run the step") as caught:
        weights.load_model(*files, CPU)
    assert "\n" not in str(caught.value)
    files[1].unlink()
    with pytest.raises(RedoubtError, match="no readable preprocessing"):
        weights.load_model(*files, CPU)


def test_another_preprocessing_is_one_line(mlp, tmp_path, make_entry, publish):
    entry = make_entry("mlp", 0.2)
    named = Method.parse(entry["preprocessing"])
    first, own = publish(mlp, entry, tmp_path / "a")
    mlp.preprocessing.mean += 1
    _, moved = publish(mlp, entry, tmp_path / "b")
    with pytest.raises(RedoubtError, match=r"not the preprocessing that .*weights\.safetensors was trained with"):
        weights.load_model(first, moved, CPU)
    layer = classifier.build_preprocessing(named, SHAPE)
    assert weights.load_preprocessing(layer, named, own, "of no data")
    assert weights.load_preprocessing(layer, Method(name="mean-image"), own)  # defaults may be left out
    with pytest.raises(RedoubtError, match="was fitted on other data"):
        weights.load_preprocessing(layer, named, own, "of other data")
    fixed = Method(name="mean-image", parameters={"channels": [0.5]})
    with pytest.raises(RedoubtError, match=r"the model's entry asks for .*0\.5"):
        weights.load_preprocessing(layer, fixed, own)
    with pytest.raises(RedoubtError, match="mean is"):
        weights.load_preprocessing(classifier.build_preprocessing(named, (1, 4, 4)), named, own)


class Viewing(torch.nn.Module):
    """A network that flattens by `view`, which needs the usual memory format."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = torch.nn.Conv2d(2, 4, 3), torch.nn.Linear(4 * 36, 3)

    def forward(self, inputs):
        maps = self.conv(inputs)
        return self.last(maps.view(len(maps), -1))


def test_networks_that_use_view_stay_in_the_memory_format_that_they_can_run_in(lenet):
    viewing, state = Viewing(), torch.random.get_rng_state()
    assert classifier.memory_format(viewing, (2, 8, 8)) == torch.contiguous_format
    assert classifier.memory_format(lenet.network, SHAPE) == torch.channels_last
    assert torch.equal(torch.random.get_rng_state(), state)


def test_forward_is_network_after_preprocessing(mlp, digit_images):
    images = digit_images[0][:3]
    assert torch.equal(mlp(images), mlp.network(255 * images - mlp.preprocessing.mean))


def test_bytes_do_not_depend_on_memory_format(lenet, tmp_path):
    saved(lenet.network, tmp_path / "a")
    saved(lenet.network.to(memory_format=torch.channels_last), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_seeds_follow_from_the_names():
    draws = []
    for parts in (("a", 1), ("a", 1), ("a", 2), ("a1",)):
        generator = device.seed_everything(*parts)
        draws.append((torch.rand(1).item(), torch.rand(1, generator=generator).item()))
    assert draws[0] == draws[1] and draws[0][0] == draws[0][1]
    assert len(set(draws)) == 3


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda state: {name: t for name, t in state.items() if name != "fc1.bias"},
            "fc1.bias is absent",
        ),
        (
            lambda state: state | {"fc1.bias": torch.zeros(7)},
            r"fc1.bias is \(7,\), .* asks for \(100,\)",
        ),
        (lambda state: state | {"more": torch.zeros(7)}, "more .* asks for none"),
        (
            lambda state: state | {"fc1.bias": torch.full((100,), float("nan"))},
            "fc1.bias is not finite",
        ),
    ],
)
def test_other_tensors_are_refused(harm, message, mlp, tmp_path):
    network = mlp.network
    safetensors.torch.save_file(harm(dict(network.state_dict())), tmp_path / "w.safetensors")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(RedoubtError, match=message) as caught:
        weights.load(network, tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_adopting_hands_over_all_tensors_and_fills_nothing_itself(mlp, tmp_path, make_entry):
    path = saved(mlp.network, tmp_path / "weights.safetensors")
    fresh, seen = classifier.build(make_entry("mlp", 0.2), SHAPE, 10).network, {}
    before = fresh.fc1.weight.clone()
    weights.adopt(fresh, weights.read(path), path, lambda network, state: seen.update({network: state}))
    assert torch.equal(fresh.fc1.weight, before)
    (state,) = seen.values()
    assert list(seen) == [fresh] and state.keys() == mlp.network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in mlp.network.state_dict().items())


def test_adopting_what_does_not_fit_is_one_line(mlp, lenet, tmp_path):
    saved(lenet.network, tmp_path / "lenet")
    for name, message in (("lenet", "do not fit .*fc3"), ("none", "no readable")):
        with pytest.raises(RedoubtError, match=message) as caught:
            path = tmp_path / name
            weights.adopt(mlp.network, weights.read(path), path, lambda network, own: network.load_state_dict(own))
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
        weights.load(mlp.network, tmp_path / "w")


def test_weights_that_are_not_finite_are_never_written(mlp):
    with torch.no_grad():
        mlp.network.fc2.weight[0, 0] = float("inf")
    with pytest.raises(RedoubtError, match=r"weights: not written: tensor fc2\.weight is not finite"):
        weights.encoded(mlp.network, "weights")
