"""Published weights: fetched by one step, whole or not at all, and asked for by no other."""

import hashlib
import io

import pytest
import torch

from redoubt.errors import RedoubtError
from redoubt.models import classifier
from redoubt.networks import _vision as vision

ENTRY = {
    "id": "imagenet-resnet18",
    "dataset": "imagenet",
    "training": {"epochs": 0, "batch_size": 10, "learning_rate": 0.1},
    "network": {"name": "resnet-18", "parameters": {"weights": "imagenet"}},
    "preprocessing": {"name": "identity", "parameters": {}},
    "defense": {"name": "clean", "parameters": {}},
}
SHAPE = (3, 64, 64)


@pytest.fixture(scope="module")
def weights():
    """The file of a network that somebody has trained."""
    torch.manual_seed(1)
    stream = io.BytesIO()
    torch.save(vision.resnet18(weights=None).state_dict(), stream)
    return stream.getvalue()


@pytest.fixture
def server(weights, tmp_path, monkeypatch):
    """Return the file that the weights are fetched from, nothing being kept here yet."""
    file = tmp_path / f"resnet18-{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    file.write_bytes(weights)
    monkeypatch.setitem(vision.PUBLISHED, "ResNet-18", file.as_uri())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return file


def test_a_baseline_begins_with_what_was_fetched(server, weights):
    with pytest.raises(RedoubtError, match=r"not there.*--dataset imagenet` fetches them"):
        classifier.build(ENTRY, SHAPE, 1000, published=True)
    found = vision.fetch("ResNet-18")
    assert found == {"path": server.name, "from": server.as_uri(), "sha256": hashlib.sha256(weights).hexdigest()}
    server.unlink()
    assert vision.fetch("ResNet-18") == found, "it is here"
    model = classifier.build(ENTRY, SHAPE, 1000, published=True)
    expected = torch.load(io.BytesIO(weights), weights_only=True)
    assert all(torch.equal(value, model.network[1].state_dict()[name]) for name, value in expected.items())
    with pytest.raises(RedoubtError, match="have 1000 classes, the data 10"):
        classifier.build(ENTRY, SHAPE, 10, published=True)


def test_who_loads_other_weights_asks_for_none(server, monkeypatch):
    monkeypatch.setattr(vision, "published", lambda *arguments: pytest.fail("asked for published weights"))
    assert classifier.build(ENTRY, SHAPE, 1000).network[1].fc.out_features == 1000


def test_damaged_weights_are_named_and_fetched_anew(server, weights, tmp_path):
    vision.fetch("ResNet-18")
    kept = tmp_path / "hub/checkpoints" / server.name
    kept.write_bytes(weights[:-1] + b"x")
    with pytest.raises(RedoubtError, match="damaged, the published weights of ResNet-18"):
        vision.published("ResNet-18", 1000)
    vision.fetch("ResNet-18")
    assert kept.read_bytes() == weights
    kept.unlink()
    server.write_bytes(weights[:-1] + b"x")
    with pytest.raises(RedoubtError, match=f"{server.name}: its published weights could not be fetched .*put them at"):
        vision.fetch("ResNet-18")
    assert not kept.exists()
