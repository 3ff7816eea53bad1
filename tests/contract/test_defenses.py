"""What every registered defense declares and promises, measured."""

import copy
import inspect
import math
from contextlib import nullcontext

import pytest
import torch

from redoubt import registry
from redoubt.models import classifier, weights
from redoubt.networks._random import MeanOfDraws, without_noise
from tests.defenses import CASES

SHAPE, CLASSES = (1, 28, 28), 10


def test_every_defense_is_tested():
    assert set(CASES) == set(registry.names("defenses"))


@pytest.fixture(scope="module")
def finished():
    """What `trained` has made already."""
    return {}


@pytest.fixture
def trained(mlp, digit_images, trainer, make_entry, finished):
    """Function (defense) to its model after some steps, its trainer, and the inputs and labels of the training."""

    def make(name, again=False):
        if again or name not in finished:
            finished[name] = train(name)
        model, made, inputs, labels = finished[name]
        model.zero_grad()
        return model.eval(), made, inputs, labels

    def train(name):
        case, module = CASES[name], registry.method("defenses", name)
        start = "tiny-model" if case.start else None
        entry = make_entry(case.network, 0.2, start=start, defense=name, parameters=case.parameters)
        torch.manual_seed(1)
        model = classifier.build(entry, SHAPE, CLASSES)
        model.preprocessing.load_state_dict(mlp.preprocessing.state_dict())
        if case.start:
            state = copy.deepcopy(mlp.network.state_dict())
            module.adopt(model.network, state) if hasattr(module, "adopt") else model.network.load_state_dict(state)
        inputs, labels = mlp.preprocessing(digit_images[0][:100]), digit_images[1][:100]
        schedule = {"epochs": 1, **case.schedule}
        layer = model.preprocessing
        made = trainer(model.network, name, case.parameters, inputs, labels, frozen=case.start, layer=layer, **schedule)
        made.defense.training_inputs(inputs, labels, lambda steps, title: steps)
        made.run()
        made.defense.finish(lambda: iter(inputs.split(33)))
        return model, made, inputs, labels

    return make


class Noisy(torch.nn.Module):
    """A network whose inputs get noise, one draw for the call or one for every image."""

    def __init__(self, network, draws):
        super().__init__()
        self.network, self.draws, self.still = network, draws, False

    def forward(self, inputs):
        shape = inputs.shape if self.draws == "image" else inputs.shape[1:]
        return self.network(inputs if self.still else inputs + torch.randn(shape))


def draws_of(network, inputs):
    """Measure when a network draws: of two calls and two copies of one image in a call, which differ?

    What it draws follows torch's generator, and nothing is drawn without noise.
    """
    copies = inputs[:1].expand(2, *inputs.shape[1:]).contiguous()
    with torch.no_grad():
        (one, two), again = network(copies), network(copies)[0]
        if (one - again).abs().max() <= 1e-4 * one.abs().max():
            return "never"
        states = [torch.manual_seed(5) and network(inputs) for _ in range(2)]
        assert torch.equal(*states)
        with without_noise(network):
            assert torch.equal(network(inputs), network(inputs))
    return "call" if (one - two).abs().max() <= 1e-4 * one.abs().max() else "image"


def predicts_by(network, inputs):
    """Measure whether predictions are the mean softmax of a network's draws, if it tells of several."""
    if not hasattr(network, "each_draw"):
        return "draw"
    with torch.no_grad():
        torch.manual_seed(5)
        prediction = network(inputs)
        torch.manual_seed(5)
        draws = network.each_draw(inputs)
    assert len(draws) > 1 and draws.shape[1:] == prediction.shape
    assert torch.allclose(prediction.exp(), draws.softmax(2).mean(0), atol=1e-6)
    assert (draws - draws[0]).abs().max() > 0
    return "mean"


@pytest.mark.parametrize("name", CASES)
def test_declared_flags_are_measured(name, trained):
    model, _, inputs, _ = trained(name)
    network, declared = model.network, registry.method("defenses", name).DECLARES
    assert draws_of(network, inputs) == declared.draws
    assert predicts_by(network, inputs) == declared.predicts
    switch = without_noise(network) if declared.draws != "never" else nullcontext()
    with torch.no_grad(), switch:
        first = network(inputs)
        alone = torch.cat([network(part) for part in inputs.split([1, 33, 66])])
    assert ((first - alone).abs().max() <= 1e-4 * first.abs().max()) != declared.batch_dependent


def test_the_flags_of_planted_networks_are_measured():
    torch.manual_seed(0)
    inputs, plain = torch.rand(6, 4), torch.nn.Linear(4, 3)
    for draws in ("call", "image"):
        network = Noisy(plain, draws).eval()
        assert (draws_of(network, inputs), predicts_by(network, inputs)) == (draws, "draw")
        assert predicts_by(MeanOfDraws(network, 3).eval(), inputs) == "mean"
        network.still = True
        assert draws_of(network, inputs) == "never"
    assert (draws_of(plain.eval(), inputs), predicts_by(plain, inputs)) == ("never", "draw")


def test_a_mean_that_is_no_mean_is_noticed():
    network = MeanOfDraws(Noisy(torch.nn.Linear(4, 3), "call"), 3).eval()
    network.forward = lambda inputs: network.each_draw(inputs)[0]
    with pytest.raises(AssertionError):
        predicts_by(network, torch.rand(6, 4))


@pytest.mark.parametrize("name", CASES)
def test_training_is_repeatable_and_does_something(name, trained, mlp, weights_bytes):
    (one, _, inputs, labels), (other, *_) = trained(name), trained(name, again=True)
    assert weights_bytes(one) == weights_bytes(other)
    assert not CASES[name].start or weights_bytes(one) != weights_bytes(mlp)
    assert (one.network(inputs).argmax(1) == labels).float().mean() > CASES[name].accuracy
    assert all(torch.isfinite(tensor).all() for tensor in one.state_dict().values())


@pytest.mark.parametrize("name", CASES)
def test_loss_is_a_finite_scalar_with_the_logits(name, trained, ask):
    model, made, inputs, labels = trained(name)
    network, before = model.network, inputs[:8].clone()
    loss, logits = ask(made.defense, inputs[:8], labels[:8])
    assert torch.equal(inputs[:8], before)
    assert loss.dim() == 0 and loss.requires_grad and math.isfinite(loss.item())
    assert logits.shape == (8, 10)
    assert torch.allclose(logits, network(inputs[:8]), rtol=1e-4, atol=1e-4) == CASES[name].own_logits
    loss.backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("name", CASES)
def test_training_inputs_keep_their_shape_and_the_originals(name, trained):
    _, made, inputs, labels = trained(name)
    before = inputs.clone()
    found = made.defense.training_inputs(inputs, labels, lambda steps, title: steps)
    assert found.shape == inputs.shape and found.dtype == inputs.dtype and torch.equal(inputs, before)
    assert (found is inputs) == CASES[name].own_inputs


@pytest.mark.parametrize("name", CASES)
def test_only_weights_that_ask_for_it_are_trained(name, trained, mlp):
    model, made, *_ = trained(name)
    frozen = {key for key, weight in model.network.named_parameters() if not weight.requires_grad}
    assert frozen == {key for key in dict(model.network.named_parameters()) if _frozen(name, key)}
    names = {f"network.{key}" for key in set(dict(model.network.named_parameters())) - frozen}
    assert set(made.optimizer.weights) == names
    own = mlp.network.state_dict()
    for key in frozen:
        assert torch.equal(model.network.state_dict()[key], own[key.removeprefix(CASES[name].frozen)])


def _frozen(name, key):
    return CASES[name].frozen is not None and key.startswith(CASES[name].frozen)


@pytest.mark.parametrize("name", CASES)
def test_a_model_comes_back_from_its_entry_and_its_files(name, trained, make_entry, publish, tmp_path, digit_images):
    model, *_ = trained(name)
    start = "tiny-model" if CASES[name].start else None
    entry = make_entry(CASES[name].network, 0.2, start=start, defense=name, parameters=CASES[name].parameters)
    files = publish(model, entry, tmp_path)
    torch.manual_seed(77)
    fresh, _ = weights.load_model(*files, torch.device("cpu"))
    images = digit_images[0][100:130]
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # as it is trained and loaded
    with torch.no_grad():
        assert torch.equal(*(torch.manual_seed(5) and each(images) for each in (fresh, model)))
    if (detects := getattr(model.network, "detects", None)) is not None:
        found = detects(model.preprocessing(images))
        assert found.dtype == torch.bool and found.shape == (30,)
        assert torch.equal(fresh.network.detects(fresh.preprocessing(images)), found)


@pytest.mark.parametrize("name", CASES)
def test_what_a_module_declares_is_what_it_has(name):
    module = registry.method("defenses", name)
    declared = module.DECLARES
    assert declared.networks is None or set(declared.networks) <= set(registry.names("networks"))
    assert declared.pretrained == (name != "clean" and CASES[name].start)
    assert declared.changes == hasattr(module, "change")
    if declared.changes:
        assert list(inspect.signature(module.change).parameters) == ["parameters", "network", "shape", "classes"]
    if hasattr(module, "adopt"):
        assert declared.changes and list(inspect.signature(module.adopt).parameters) == ["network", "state"]
