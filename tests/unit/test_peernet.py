"""The defense `peernet`: what it changes, what it starts from, and that it learns."""

import pytest
import torch

from redoubt import registry
from redoubt.defenses import peernet
from redoubt.errors import RedoubtError
from redoubt.models import classifier
from redoubt.networks._peers import PeerNetwork


def entry(network="lenet5", values=None, **parameters):
    parameters = {"after": ["conv1", "conv2"], "peers": 8, "draws": 2, **parameters}
    return {
        "id": "tiny-peernet",
        "dataset": "digits",
        "training": {"epochs": 1, "batch_size": 10, "learning_rate": 0.1},
        "network": {"name": network, "parameters": values or {"width": 0.2}},
        "preprocessing": {"name": "identity", "parameters": {}},
        "defense": {"name": "peernet", "parameters": parameters, "changes": True},
    }


def built(seed=0, **options):
    torch.manual_seed(seed)
    shape = options.pop("shape", (1, 28, 28))
    return classifier.build(entry(**options), shape, 10)


def test_published_places_of_both_networks():
    model = built()
    assert isinstance(model.network, PeerNetwork) and list(model.network.layers) == ["conv1", "conv2"]
    assert [part.score.in_features for part in model.network.layers.values()] == [8, 20]
    places = registry.method("networks", "resnet-cifar").PEER_LAYERS
    residual = built(network="resnet-cifar", values={"depth": 8}, after=list(places), shape=(3, 32, 32))
    seen = {}
    for name, part in residual.network.layers.items():
        part.register_forward_hook(lambda _, __, maps, name=name: seen.update({name: tuple(maps.shape[1:])}))
    residual.eval()(torch.rand(2, 3, 32, 32))
    assert seen == {"stage2": (32, 16, 16), "stage3": (64, 8, 8)}  # between stages B and C, and before the classifier


def test_options_reach_every_layer():
    model = built(neighbours=3, attention="printed", edge_dropout=0.1, attention_dropout=0.3, own_pixels="always")
    for part in model.network.layers.values():
        assert (part.neighbours, part.attention, part.edge_dropout) == (3, "printed", 0.1)
        assert (part.attention_dropout, part.own_pixels) == (0.3, "always")
    assert built(average="layers").network.average == "layers"
    assert built(peers=5, draws=4).network.peers.shape == (20, 1, 28, 28)


def test_it_learns_digits(digit_images):
    images, labels = (part[:240] for part in digit_images)
    images = torch.nn.functional.interpolate(images, size=20, mode="bilinear")
    model = built(peers=20, draws=2, values={"width": 0.3}, shape=(1, 20, 20))
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for epoch in range(5):
        for batch in torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch)).split(20):
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.network.set_peers(images)
    model.eval()
    with torch.no_grad():
        assert (model(images[:100]).argmax(1) == labels[:100]).float().mean() > 0.8
        assert model(images[:0]).shape == (0, 10)


def test_peers_come_from_the_training_inputs():
    model = built()
    inputs = torch.rand(30, 1, 28, 28)
    parameters = peernet.Parameters(after=["conv1"])
    torch.manual_seed(0)
    assert peernet.Defense(parameters, model.network).training_inputs(inputs, None, None) is inputs
    chosen = (model.network.peers[:, None] == inputs).flatten(2).all(2)
    assert (chosen.sum(1) == 1).all()
    assert all(len(set(draw.nonzero()[:, 1].tolist())) == 8 for draw in chosen.split(8))


def test_start_gives_weights_and_no_peers():
    start, other = built(), built(seed=1, peers=5, draws=3)
    start.network.set_peers(torch.rand(20, 1, 28, 28))
    before = other.network.peers.clone()
    peernet.adopt(other.network, start.network.state_dict())
    assert torch.equal(other.network.peers, before)
    names = [name for name, _ in start.named_parameters()]
    assert names and all(torch.equal(start.get_parameter(name), other.get_parameter(name)) for name in names)
    with pytest.raises((RuntimeError, KeyError)):
        peernet.adopt(other.network, {"conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize("values", [{}, {"after": []}, {"after": ["conv1"], "peers": 1}, {"after": ["a"], "draws": 0}])
def test_parameters_are_checked(values):
    with pytest.raises(RedoubtError):
        registry.parameters("defenses", "peernet", values)


def test_unknown_place_is_one_line():
    with pytest.raises(RedoubtError, match="after: 'conv9' is not one of conv1") as error:
        built(after=["conv9"])
    assert "\n" not in str(error.value)
