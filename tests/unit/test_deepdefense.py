"""DeepDefense: the regulariser's value and gradient against hand computation, finite differences and the paper."""

import copy

import pytest
import torch

from redoubt import registry
from redoubt.attacks import deepfool
from redoubt.defenses import clean, deepdefense
from redoubt.errors import RedoubtError


def options(**values):
    return registry.parameters("defenses", "deepdefense", values)


def small_net(activation=torch.nn.Tanh, seed=0, sizes=(6, 9, 4), dtype=torch.float64):
    torch.manual_seed(seed)
    first, second = torch.nn.Linear(*sizes[:2]), torch.nn.Linear(*sizes[1:])
    return torch.nn.Sequential(first, activation(), second).to(dtype).eval()


@pytest.mark.parametrize("name", ["mlp", "lenet"])
@pytest.mark.parametrize("iterations", [1, 5])
def test_retrace_repeats_the_walk(name, iterations, request, digit_images):
    model = request.getfixturevalue(name)
    inputs = model.preprocessing(digit_images[0][:30])
    parameters = options(iterations=iterations, guard=5e-6)
    walked, _, steps = deepfool.perturb(model.network, inputs, parameters)
    again = deepdefense.retrace(model.network, inputs, steps, parameters)
    assert again.requires_grad and (again - walked).abs().max() <= 1e-4 * walked.abs().max()
    assert walked.flatten(1).norm(dim=1).median() > 10


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.ReLU, torch.nn.Softplus])
@pytest.mark.parametrize("shape", ["exp", "linear"])
def test_gradient_equals_central_differences(activation, shape):
    network = small_net(activation)
    inputs = torch.randn(8, 6, dtype=torch.float64)
    labels = network(inputs).argmax(1)
    labels[:3] = (labels[:3] + 1) % 4  # three misclassified images
    parameters = options(**{"lambda": 2.0}, c=3.0, d=0.7, guard=1e-9, iterations=3, shape=shape)
    defense = deepdefense.Defense(parameters, network)
    _, _, steps = deepfool.perturb(network, inputs, parameters)
    weights = list(network.parameters())
    analytic = torch.cat([g.flatten() for g in torch.autograd.grad(defense.regulariser(inputs, labels), weights)])
    numeric = []
    for weight in weights:
        flat = weight.data.view(-1)
        for position in range(len(flat)):
            values = []
            for change in (1e-6, -2e-6):
                flat[position] += change
                values.append(defense.regulariser(inputs, labels).item())
            flat[position] += 1e-6
            numeric.append((values[0] - values[1]) / 2e-6)
    numeric = torch.tensor(numeric, dtype=torch.float64)
    assert len(steps) > 1 and numeric.norm() > 1e-3
    assert torch.nn.functional.cosine_similarity(analytic, numeric, dim=0) > 0.999
    assert abs(analytic.norm() / numeric.norm() - 1) < 1e-3


def test_input_gradient_is_the_papers_closed_form_for_two_layers():
    """Equations (4) and (5): the gradient of f is W0 (1_{>0}(a) * w1), so r = |f| / ||g||^2 g."""
    network = small_net(torch.nn.ReLU, seed=3, sizes=(7, 20, 2))
    inputs = torch.randn(15, 7, dtype=torch.float64)
    parameters = options(iterations=1, guard=1e-12, overshoot=0.0)
    found, predicted, steps = deepfool.perturb(network, inputs, parameters)
    again = deepdefense.retrace(network, inputs, steps, parameters)
    first, last = network[0], network[2]
    for row, source in enumerate(predicted):
        a = first.weight @ inputs[row] + first.bias
        w1 = last.weight[1 - source] - last.weight[source]
        gradient = first.weight.T @ ((a > 0) * w1)
        f = w1 @ a.clamp_min(0) + last.bias[1 - source] - last.bias[source]
        expected = f.abs() / gradient.norm() ** 2 * gradient
        assert torch.allclose(found[row], expected, rtol=1e-6, atol=1e-9)
        assert torch.allclose(again[row], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", ["exp", "linear"])
def test_value_by_hand_on_a_binary_affine_network(affine, shape):
    # f = 3 x0 + 4 x1, ||w|| = 5; the distance of an image to the boundary is |f| / 5.
    network = affine(torch.tensor([[1.5, 2.0], [-1.5, -2.0]]).double(), torch.zeros(2).double())
    inputs = torch.tensor([[3.0, 4.0], [1.0, 0.0], [-4.0, 3.0 - 1e-9]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    parameters = options(**{"lambda": 2.0}, c=1.5, d=0.5, overshoot=0.0, guard=1e-12, iterations=1, shape=shape)
    defense = deepdefense.Defense(parameters, network)
    ratio, wrong = defense.ratios(inputs, labels)
    assert wrong.tolist() == [False, True, False]
    assert torch.allclose(ratio, torch.tensor([1.0, 0.6, 0.0]).double(), atol=1e-7)
    arguments = torch.tensor([-1.5 * 1.0, 0.5 * 0.6, 0.0]).double()
    expected = 2.0 * (arguments.exp() if shape == "exp" else arguments).mean()
    assert torch.allclose(defense.regulariser(inputs, labels), expected, atol=1e-6)


def test_misclassified_images_are_pushed_to_their_label_not_the_nearest_class(affine):
    # Predicted 0; class 1 is near, the label 2 is far.
    network = affine(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).double(), torch.zeros(3).double())
    inputs = torch.tensor([[2.0, 1.5]]).double()
    defense = deepdefense.Defense(options(guard=1e-12, overshoot=0.0, iterations=1), network)
    near, _ = defense.ratios(inputs, torch.tensor([0]))
    far, _ = defense.ratios(inputs, torch.tensor([2]))
    assert near.item() == pytest.approx(0.5 / 2**0.5 / 2.5, rel=1e-6)
    assert far.item() == pytest.approx(2.0 / 2.5, rel=1e-6)


def test_a_step_makes_right_images_harder_and_wrong_ones_easier(mlp, digit_images):
    inputs = mlp.preprocessing(digit_images[0][:60])
    right = mlp.network(inputs).argmax(1)
    for labels, sign in ((right, 1), ((right + 1) % 10, -1)):
        network = copy.deepcopy(mlp.network)
        defense = deepdefense.Defense(options(guard=5e-6, c=5.0, d=5.0), network)
        before, wrong = (part.detach() for part in defense.ratios(inputs, labels))
        assert wrong.all() if sign < 0 else not wrong.any()
        optimizer = torch.optim.SGD(network.parameters(), 1e-6)
        defense.regulariser(inputs, labels).backward()
        optimizer.step()
        after, still = defense.ratios(inputs, labels)
        assert torch.equal(wrong, still) and sign * (after - before).mean() > 0


def test_lambda_zero_is_clean_training_bit_for_bit(mlp, digit_images, trainer, weights_bytes):
    inputs, labels = mlp.preprocessing(digit_images[0][:60]), digit_images[1][:60]
    found = []
    for name, parameters in (("clean", {}), ("deepdefense", {"lambda": 0.0, "guard": 5e-6})):
        network = copy.deepcopy(mlp.network)
        trainer(network, name, parameters, inputs, labels).run()
        found.append(weights_bytes(network))
    assert found[0] == found[1] != weights_bytes(mlp.network)


def test_layers_mask_the_gradient_and_leave_the_loss(lenet, digit_images, ask):
    inputs, labels = lenet.preprocessing(digit_images[0][:20]), digit_images[1][:20]
    network = lenet.network
    values = {"guard": 5e-6, "c": 1.0}
    base = clean.Defense(clean.Parameters(), network)

    def gradients(defense):
        network.zero_grad()
        loss, _ = ask(defense, inputs, labels)
        loss.backward()
        return loss.item(), {name: weight.grad.clone() for name, weight in network.named_parameters()}

    entropy, plain = gradients(base)
    whole, full = gradients(deepdefense.Defense(options(**values), network))
    masked, kept = gradients(deepdefense.Defense(options(**values, layers=["conv2", "fc1"]), network))
    assert masked == pytest.approx(whole, rel=1e-6) and whole > entropy + 0.1
    for name in plain:
        own = name.split(".")[0] in ("conv2", "fc1")
        expected, other = (full, plain) if own else (plain, full)
        assert torch.allclose(kept[name], expected[name], rtol=1e-4, atol=1e-5 * float(expected[name].abs().max()))
        if "weight" in name:
            assert (kept[name] - other[name]).norm() > 1e-3 * other[name].norm()


def test_an_unknown_layer_is_named_in_one_line(lenet):
    with pytest.raises(RedoubtError, match=r"'conv7' is not one of conv1, .*fc2$"):
        deepdefense.Defense(options(layers=["conv1", "conv7"]), lenet.network)


def test_modes_come_back(mlp, digit_images):
    network = torch.nn.Sequential(mlp.network, torch.nn.BatchNorm1d(10), torch.nn.Dropout()).train()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    mean = network[1].running_mean.clone()
    deepdefense.Defense(options(), network).regulariser(mlp.preprocessing(digit_images[0][:5]), digit_images[1][:5])
    assert [module.training for module in network.modules()] == modes and torch.equal(network[1].running_mean, mean)


def test_the_regulariser_is_that_of_eval_mode_and_training_goes_on():
    torch.manual_seed(0)
    layers = (torch.nn.Linear(6, 20), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(20, 4))
    network = torch.nn.Sequential(*layers).eval()
    defense = deepdefense.Defense(options(), network)
    inputs, labels = torch.randn(8, 6), torch.randint(4, (8,))
    still = defense.regulariser(inputs, labels)
    network.train()
    assert torch.equal(defense.regulariser(inputs, labels), still)
    assert all(module.training for module in network.modules())
    assert not torch.equal(network(inputs), network(inputs))
