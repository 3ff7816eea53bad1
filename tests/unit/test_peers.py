"""Peer regularisation: a graph computed by hand, brute force, gradients, dropouts, fixed peers."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft
from redoubt.evaluation.surrogate import Surrogate
from redoubt.networks import _boxes as boxes
from redoubt.networks import _nearest as search
from redoubt.networks import _peers as module
from redoubt.networks._nearest import first_kept, nearest, surely_enough
from redoubt.networks._peers import PeerFeatures, PeerRegularization, add_peer_regularization, pixels, some_copies
from redoubt.networks._scan import Scan


def layer(channels=3, seed=0, **options):
    torch.manual_seed(seed)
    return PeerRegularization(channels, **{"neighbours": 4, **options}).eval()


def maps(images=4, channels=3, side=5, seed=1, dtype=torch.float32):
    return torch.randn(images, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute_force(peer_layer, features, own_pixels=False):
    """The layer on a batch as equations (1) and (2) say it, pixel by pixel, in double precision."""
    images, channels, height, width = features.shape
    size = height * width
    flat = features.double().permute(0, 2, 3, 1).reshape(-1, channels)
    weight, bias = peer_layer.score.weight[0].double(), peer_layer.score.bias[0].double()
    result = torch.empty_like(flat)
    for p in range(len(flat)):
        others = [q for q in range(len(flat)) if own_pixels or q // size != p // size]
        cosine = torch.nn.functional.cosine_similarity(flat[p][None], flat[others])
        near = [others[k] for k in cosine.argsort(descending=True)[: peer_layer.neighbours].tolist()]
        a = torch.stack([weight @ torch.cat([flat[p], flat[q]]) + bias for q in near])
        if peer_layer.attention == "gat":
            alpha = torch.nn.functional.leaky_relu(a, 0.2).exp()
        else:
            alpha = torch.nn.functional.leaky_relu(a.exp(), 0.2)
        result[p] = (alpha / alpha.sum()) @ flat[near]
    return result.view(images, height, width, channels).permute(0, 3, 1, 2)


def test_three_images_by_hand():
    # One pixel and two channels each: the third image is near to the first by direction, not by distance.
    peer_layer = layer(2, neighbours=1)
    features = torch.tensor([[1.0, 0.1], [0.0, 1.0], [9.0, 0.0]]).view(3, 2, 1, 1)
    found = peer_layer(features)[:, :, 0, 0]
    assert torch.allclose(found, torch.tensor([[9.0, 0.0], [1.0, 0.1], [1.0, 0.1]]))
    peer_layer.neighbours = 2
    with torch.no_grad():
        peer_layer.score.weight.copy_(torch.tensor([[0.5, 0.0, 1.0, -1.0]]))
        peer_layer.score.bias.fill_(-1.0)
    # First image: a = 0.5 - 1 + (0 - 1) = -1.5 towards the second, 0.5 - 1 + 9 = 8.5 towards the third.
    second, third = math.exp(0.2 * -1.5), math.exp(8.5)
    expected = torch.tensor([9.0 * third, second]) / (second + third)
    assert torch.allclose(peer_layer(features)[0, :, 0, 0], expected)


@pytest.mark.parametrize("attention", ["gat", "printed"])
@pytest.mark.parametrize("own_pixels", ["none", "training", "always"])
def test_agrees_with_brute_force(attention, own_pixels):
    peer_layer = layer(attention=attention, own_pixels=own_pixels)
    features = maps()
    expected = brute_force(peer_layer, features, own_pixels != "none")
    assert torch.allclose(peer_layer(features).double(), expected, atol=1e-5)


def test_a_pixel_is_its_own_nearest_when_allowed():
    features = maps()
    alone = layer(neighbours=1, own_pixels="training")
    assert torch.allclose(alone(features), features)
    assert not torch.allclose(layer(neighbours=1)(features), features)


def test_the_query_cancels_in_the_printed_attention_only():
    features = maps()
    queries = pixels(features)
    found = torch.randint(len(queries), (len(queries), 4))
    for attention, cancels in (("printed", True), ("gat", False)):
        peer_layer = layer(attention=attention)
        alpha = peer_layer.weights(queries, queries, found)
        with torch.no_grad():
            peer_layer.score.weight[:, :3] *= -3.0  # the query's share of a()
            peer_layer.score.bias += 5.0
        assert torch.allclose(peer_layer.weights(queries, queries, found), alpha, atol=1e-5) == cancels


@pytest.mark.parametrize("training", [False, True])
def test_attention_rows_sum_to_one(training):
    peer_layer = layer().train(training)
    queries = pixels(maps())
    alpha = peer_layer.weights(queries, queries, torch.randint(len(queries), (len(queries), 4)))
    assert (alpha >= 0).all() and torch.allclose(alpha.sum(1), torch.ones(len(queries)))
    assert ((alpha == 0).any() and (alpha == 1).any()) == training  # edges are removed, but never all of a pixel's


def test_attention_dropout_removes_its_share():
    peer_layer = layer(attention_dropout=0.5, neighbours=10).train()
    queries = torch.randn(4000, 3)
    alpha = peer_layer.weights(queries, queries, torch.randint(4000, (4000, 10)))
    assert abs(float((alpha == 0).double().mean()) - 0.5) < 0.01


def test_gradients():
    peer_layer = layer(edge_dropout=0.0, attention_dropout=0.0).double()
    features = maps(3, 3, 3, dtype=torch.float64).requires_grad_()
    parameters = tuple(peer_layer.parameters())

    def run(values, weight, bias):
        state = {"score.weight": weight, "score.bias": bias}
        return torch.func.functional_call(peer_layer, state, (values,))

    arguments = (features, *(parameter.detach().requires_grad_() for parameter in parameters))
    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments)
    draw = PeerFeatures.of(maps(3, 3, 3, seed=9, dtype=torch.float64), 4)
    assert torch.autograd.gradcheck(lambda values: peer_layer.link(values, draw), (features,))


def test_order_of_peers_changes_nothing():
    peer_layer, features, peers = layer(), maps(2), maps(6, seed=3)
    shuffled = peers[torch.randperm(6)]
    found = [peer_layer.link(features, PeerFeatures.of(each, 4)) for each in (peers, shuffled)]
    assert torch.allclose(*found, atol=1e-6)
    batch = maps(5)
    order = torch.randperm(5)
    assert torch.allclose(peer_layer(batch)[order], peer_layer(batch[order]), atol=1e-6)


# -- dropped edges ----------------------------------------------------------------------------------------------------


def dropped_naively(peer_layer, features, images, generator):
    """Drop every candidate edge on its own, then take the K nearest."""
    directions = module.unit(features).double()
    similarity = directions @ directions.T
    image = torch.arange(images).repeat_interleave(len(features) // images)
    similarity[image[:, None] == image] = -math.inf
    similarity[torch.rand(similarity.shape, generator=generator) < peer_layer.edge_dropout] = -math.inf
    return similarity.topk(peer_layer.neighbours, 1).indices


@pytest.mark.parametrize("way", ["stripes", "few", "passes", "boxes", "gpu"])
def test_dropping_from_the_top_of_the_list_has_the_same_distribution(way, monkeypatch):
    # With `few`, only one spare candidate is looked at first, so that many pixels must be searched again; as on a GPU,
    # no pixel is ever searched again.
    if way == "gpu":
        monkeypatch.setattr(module, "ANSWERS", set())
        monkeypatch.setattr(module.PeerRegularization, "_rest", None)
    if way in ("passes", "boxes"):
        pytest.importorskip("numba")
        monkeypatch.setattr(search, "FEWEST", 1)
    if way == "boxes":
        monkeypatch.setattr(boxes, "FEWEST", 1)
        monkeypatch.setattr(boxes, "REST", 1.0)
    if way == "few":
        monkeypatch.setattr(module, "enough", lambda neighbours, dropout: neighbours + 1)
    peer_layer = layer(edge_dropout=0.4, neighbours=3).train()
    features = pixels(maps(3, 3, 3))
    made = {"passes": Scan, "boxes": boxes.Index}
    assert type(search.index_of(module.unit(features))) is made.get(way, type(None))
    ranks = torch.empty(len(features), len(features), dtype=torch.int64)
    directions = module.unit(features).double()
    similarity = directions @ directions.T
    image = torch.arange(3).repeat_interleave(9)
    similarity[image[:, None] == image] = -math.inf
    ranks.scatter_(1, similarity.argsort(1, descending=True), torch.arange(len(features)).expand_as(ranks))
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(2, 3, 18)  # lean or naive, place among the neighbours, rank in the list
    torch.manual_seed(0)
    for _ in range(300):
        lean = peer_layer.neighbours_within(features, 3)
        naive = dropped_naively(peer_layer, features, 3, generator)
        for kind, found in enumerate((lean, naive)):
            places = ranks.gather(1, found)
            for k in range(3):
                counts[kind, k] += torch.bincount(places[:, k], minlength=18)[:18]
    shares = counts / counts.sum(2, keepdim=True)
    for k in range(3):  # the k-th survivor's rank has a negative binomial distribution
        for rank in range(k, 12):
            chance = math.comb(rank, k) * 0.6 ** (k + 1) * 0.4 ** (rank - k)
            slack = 4 * math.sqrt(chance * (1 - chance) / (300 * 27)) + 1e-4
            assert abs(float(shares[0, k, rank]) - chance) < slack
            assert abs(float(shares[1, k, rank]) - chance) < slack


@pytest.mark.parametrize(("neighbours", "dropout"), [(10, 0.2), (5, 0.2), (3, 0.4), (1, 0.9), (7, 0.0)])
def test_on_a_gpu_so_many_are_searched_for_that_none_lack_any(neighbours, dropout):
    def short(count):  # the chance that fewer than `neighbours` of `count` stay, by adding one after the other
        chances = torch.zeros(neighbours + 1, dtype=torch.float64)
        chances[0] = 1.0
        for _ in range(count):
            more = chances[:-1] * (1 - dropout)
            chances[:-1] *= dropout
            chances[1:] += more
        return 1 - float(chances[-1])

    count = surely_enough(neighbours, dropout)
    assert short(count) < 2**-24 and (count == neighbours or short(count - 1) > 2**-24 - 1e-12)


def test_on_a_gpu_they_are_searched_for(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "nearest", lambda *given: asked.append(given[2]) or nearest(*given))
    for answers in ({"cpu"}, set()):
        monkeypatch.setattr(module, "ANSWERS", answers)
        layer(edge_dropout=0.2, neighbours=5).train()(maps(3))
    assert asked == [12, 19]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), width=st.integers(1, 12), count=st.integers(1, 12))
def test_first_kept(data, rows, width, count):
    count = min(count, width)
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width)))
    kept = kept.view(rows, width)
    found = torch.arange(rows * width).view(rows, width)
    picked = first_kept(found, kept, count)
    for row in range(rows):
        survivors = found[row][kept[row]].tolist()
        rest = found[row][~kept[row]].tolist()
        assert picked[row].tolist() == (survivors + rest)[:count]


def test_nothing_is_dropped_after_training():
    peer_layer, features = layer(edge_dropout=0.9), maps()
    torch.manual_seed(0)
    first = peer_layer(features)
    assert torch.equal(first, peer_layer(features))
    peer_layer.train()
    assert not torch.equal(peer_layer(features), peer_layer(features))


def test_more_neighbours_than_candidates_are_refused():
    with pytest.raises(RedoubtError, match="18 candidates"):
        layer(neighbours=19)(maps(3, 3, 3))
    assert layer(neighbours=18)(maps(3, 3, 3)).shape == (3, 3, 3, 3)
    assert layer(neighbours=18, edge_dropout=0.5).train()(maps(3, 3, 3)).shape == (3, 3, 3, 3)


# -- equal pixels -----------------------------------------------------------------------------------------------------


def with_background(images=5, side=6, seed=4, share=0.6):
    """Feature maps most of whose pixels are one of two values, bit for bit."""
    features = maps(images, 3, side, seed)
    draw = torch.rand(images, 1, side, side, generator=torch.Generator().manual_seed(seed))
    flat = torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1, 1)
    features = torch.where(draw < share, flat, features)
    return torch.where(draw < share / 3, -flat, features)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.5, 0.95, 1.0]), neighbours=st.integers(1, 12))
def test_leaving_out_copies_changes_nothing(seed, share, neighbours):
    peer_layer = layer(neighbours=neighbours)
    features = with_background(seed=seed, share=share)
    assert torch.allclose(peer_layer(features).double(), brute_force(peer_layer, features), atol=1e-5)
    draw = PeerFeatures.of(features, neighbours)
    flat = pixels(features)
    everything = PeerFeatures(flat, module.unit(flat), torch.arange(len(flat)), len(flat))
    queries = with_background(2, seed=seed + 1)
    assert torch.allclose(peer_layer.link(queries, draw), peer_layer.link(queries, everything), atol=1e-5)
    assert torch.equal(pixels(features)[draw.places], draw.features)


@pytest.mark.parametrize("training", [True, False])
def test_devices_that_search_for_every_pixel_find_the_same(training, monkeypatch):
    peer_layer, features = layer(edge_dropout=0.0, attention_dropout=0.0), with_background(share=0.5)
    queries = with_background(2, seed=1)

    def outputs():
        if training:
            return peer_layer(features)
        return peer_layer.link(queries, PeerFeatures.of(features, peer_layer.neighbours))

    once = outputs()
    monkeypatch.setattr(module, "DEDUPLICATE", set())
    assert torch.allclose(outputs(), once, atol=1e-6)


def test_few_copies_are_searched():
    features = with_background(share=1.0)
    assert len(PeerFeatures.of(features, 10).features) <= 2 * 2 * 10 < 5 * 36


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), kinds=st.integers(1, 4), copies=st.integers(1, 5))
def test_whichever_image_is_left_out_enough_copies_remain(seed, size, kinds, copies):
    draw = torch.Generator().manual_seed(seed)
    kind = torch.randint(kinds, (size,), generator=draw)
    image = torch.randint(4, (size,), generator=draw).sort().values
    kept = some_copies(*module.duplicates(kind[:, None].float()), copies)
    assert (kept.diff() > 0).all()
    for value in range(kinds):
        for left_out in range(-1, 4):
            allowed = (kind == value) & (image != left_out)
            assert int(allowed[kept].sum()) >= min(copies, int(allowed.sum()))


# -- networks ---------------------------------------------------------------------------------------------------------


class Small(torch.nn.Sequential):
    def __init__(self):
        nn = torch.nn
        super().__init__(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        )


def network(seed=0, peers=6, draws=3, **options):
    torch.manual_seed(seed)
    made = add_peer_regularization(Small(), ["1", "3"], (1, 9, 9), peers, draws, neighbours=4, **options)
    for norm in (part for part in made.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
    made.set_peers(torch.randn(40, 1, 9, 9), torch.Generator().manual_seed(seed))
    return made.eval()


IMAGES = torch.randn(12, 1, 9, 9, generator=torch.Generator().manual_seed(5))


def test_example_of_the_docs():
    images, labels = torch.rand(60, 1, 9, 9), torch.randint(3, (60,))
    model = add_peer_regularization(Small(), after=["1", "3"], shape=(1, 9, 9), peers=20, draws=5)
    optimizer = torch.optim.Adam(model.parameters())
    before = copy.deepcopy(model.state_dict())
    for batch in torch.randperm(60).split(20):
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.set_peers(images)
    model.eval()
    chances = model(images[:4]).exp()
    assert torch.allclose(chances.sum(1), torch.ones(4), atol=1e-5)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(before)


def test_a_test_image_never_sees_another():
    model = network()
    with torch.no_grad():
        together = model(IMAGES)
        alone = torch.cat([model(part) for part in IMAGES.split([1, 4, 7])])
        order = torch.randperm(12)
        shuffled = model(IMAGES[order])
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(together[order], shuffled, atol=1e-5)


@pytest.mark.parametrize("average", ["outputs", "layers"])
def test_mean_over_draws(average):
    model = network(average=average)
    with torch.no_grad():
        found = model(IMAGES)
        singles = []
        for draw in range(3):
            single = network(draws=1, average=average)
            single.load_state_dict({**model.state_dict(), "peers": model.peers[6 * draw : 6 * draw + 6]})
            singles.append(single(IMAGES).exp())
    mean = torch.stack(singles).mean(0)
    assert torch.allclose(found.exp(), mean, atol=1e-6) == (average == "outputs")
    assert torch.allclose(found.exp().sum(1), torch.ones(12), atol=1e-5)


def test_mean_in_the_layers_by_hand():
    model = network(average="layers")
    with torch.no_grad(), model.linked() as features:
        first = model.network[1].module(model.network[0](IMAGES))
        peer_layer = model.layers["1"]
        mean = torch.stack([peer_layer.link(first, draw) for draw in features["1"]]).mean(0)
        assert torch.allclose(pixels(peer_layer(first)), mean, atol=1e-6)


def test_peers_see_the_other_peers_of_their_draw():
    model = network()
    features = model._features()
    for draw, peers in enumerate(model.peers.split(6)):
        with torch.no_grad():
            first = model.network[1].module(model.network[0](peers))
            assert torch.equal(features["1"][draw].features, pixels(first)[features["1"][draw].places])
            regularised = brute_force(model.layers["1"], first).float()
            second = model.network[3].module(model.network[2](regularised))
        expected = pixels(second)[features["3"][draw].places]
        assert torch.allclose(features["3"][draw].features, expected, atol=1e-4)


def test_features_of_peers_follow_weights_and_peers(monkeypatch):
    model = network()
    passes = []
    original = model._record
    monkeypatch.setattr(model, "_record", lambda: passes.append(1) or original())
    with torch.no_grad():
        first = model(IMAGES)
        assert torch.equal(model(IMAGES), first) and len(passes) == 1
        model.network[0].weight.mul_(1.5)
        second = model(IMAGES)
        assert len(passes) == 2 and not torch.allclose(first, second)
        model.set_peers(torch.randn(40, 1, 9, 9))
        assert not torch.allclose(model(IMAGES), second) and len(passes) == 3
        again = copy.deepcopy(model)
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_prediction_changes_nothing_of_the_model():
    model = network()
    before = copy.deepcopy(model.state_dict())
    inputs = IMAGES.clone().requires_grad_()
    model(inputs).square().sum().backward()
    assert inputs.grad.abs().max() > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(part.draws is None for part in model.layers.values())
    assert not any(part.training for part in model.modules())


def passed_by(model, images):
    """By hand: values of the peer network, slopes of the network without its layers."""
    point = images.clone().requires_grad_()
    total = 0.0
    with model.linked() as features:
        for draw in range(3):
            first = model.network[1].module(model.network[0](point))
            moved = module._shaped(model.layers["1"].link(first, features["1"][draw]), first)
            second = model.network[3].module(model.network[2](first + (moved - first).detach()))
            moved = module._shaped(model.layers["3"].link(second, features["3"][draw]), second)
            logits = torch.nn.Sequential(*list(model.network)[4:])(second + (moved - second).detach())
            total = total + logits.softmax(1) / 3
    (gradient,) = torch.autograd.grad(total.log()[:, 0].sum(), point)
    return gradient


def test_straight_through_is_the_same_model_with_the_gradient_of_the_identity():
    model = network()
    through = Surrogate(model)
    inputs = IMAGES.clone().requires_grad_()
    found = through(inputs)
    assert torch.equal(found, model(IMAGES))
    assert not any(part.stand_in for part in model.layers.values())
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), inputs)

    expected = passed_by(model, IMAGES)
    assert torch.allclose(gradient, expected, atol=1e-5)
    (exact,) = torch.autograd.grad(model(inputs)[:, 0].sum(), inputs)
    assert not torch.allclose(gradient, exact, atol=1e-3)


def test_straight_through_needs_a_layer_to_pass_by():
    with pytest.raises(RedoubtError, match="no layer that gradients could pass by"):
        Surrogate(Small())


@pytest.mark.parametrize("engine", ["redoubt", "foolbox"])
def test_a_model_behind_it_is_attacked_as_any_other(engine):
    model, labels = network(average="layers"), torch.zeros(len(IMAGES), dtype=torch.int64)
    images, through = IMAGES.clamp(0, 1), Surrogate(model)
    craft("gradient-scan", through, images, labels, engine=engine)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(part.stand_in for part in model.layers.values())
    model.train()
    with pytest.raises(RedoubtError, match="training mode"):
        craft("gradient-scan", Surrogate(model), images, labels, engine=engine)


def test_the_switch_goes_back_after_an_error():
    model = network()
    with pytest.raises(RuntimeError):
        Surrogate(model)(torch.zeros(2, 3, 9, 9))
    assert not any(part.stand_in for part in model.layers.values())


def test_training_uses_the_batch():
    model = network(edge_dropout=0.0, attention_dropout=0.0).train()
    with torch.no_grad():
        both, half = model(IMAGES), model(IMAGES[:6])
    assert not torch.allclose(both[:6], half, atol=1e-3)


def test_peers_are_drawn_without_repetition():
    model = network(peers=40, draws=2)
    inputs = torch.arange(40.0).view(-1, 1, 1, 1).expand(-1, 1, 9, 9)
    model.set_peers(inputs)
    one, other = model.peers[:, 0, 0, 0].split(40)
    assert sorted(one.tolist()) == sorted(other.tolist()) == list(range(40)) and not torch.equal(one, other)
    with pytest.raises(RedoubtError, match="40 peers asked for, but there are 39"):
        model.set_peers(inputs[:39])


def test_unknown_places_are_refused():
    with pytest.raises(RedoubtError, match="'x' is not one of 0, 1"):
        add_peer_regularization(Small(), ["x"], (1, 9, 9))
    with pytest.raises(RedoubtError, match=r"'6' returns \(1, 5\), not feature maps"):
        add_peer_regularization(Small(), ["6"], (1, 9, 9))
    with pytest.raises(RedoubtError, match="0, 0 names a module twice"):
        add_peer_regularization(Small(), ["0", "0"], (1, 9, 9))
