"""The training loop: same bytes, interrupted or not; schedules, augmentation and what is refused."""

import copy
import io
import random

import pandas as pd
import pytest
import torch

from redoubt.defenses.interface import BaseDefense, Group
from redoubt.errors import RedoubtError
from redoubt.study.entries.model import Training
from redoubt.training.data import augment
from redoubt.training.loop import freeze_batch_norm, learning_rate
from redoubt.training.optimizer import NamedOptimizer
from redoubt.training.resume import Resume


class Interrupted(Exception):
    """Stands in for a kill at some step."""


class Fragile:
    """A defense that fails at one of its steps."""

    def __init__(self, inner, call):
        self.inner, self.left = inner, call

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def step(self, batch, moment, optimizer):
        if self.left == 0:
            raise Interrupted
        self.left -= 1
        return self.inner.step(batch, moment, optimizer)


class Alternating(BaseDefense):
    """A toy: a scale of the inputs is learned in turn with the network, up where the network goes down."""

    def __init__(self, parameters, network):
        super().__init__(parameters, network)
        self.scale = torch.ones(1, requires_grad=True)
        self.seen = torch.zeros(1)  # images since the training began

    def groups(self):
        return [Group([self.scale], learning_rate=0.5, weight_decay=0.0), Group(["5.bias"], learning_rate=2.0)]

    def state(self):
        return {"scale": self.scale, "seen": self.seen}

    def loss(self, batch, moment):
        noise = 0.1 * torch.randn_like(batch.inputs)
        logits = self.network(batch.inputs * self.scale + noise)
        return torch.nn.functional.cross_entropy(logits, batch.labels), logits

    def step(self, batch, moment, optimizer):
        result = super().step(batch, moment, optimizer)  # both go down
        optimizer.zero_grad()
        loss, _ = self.loss(batch, moment)
        (self.scale.grad,) = torch.autograd.grad(-loss / (1 + moment.epoch), [self.scale])
        optimizer.step()  # the scale alone goes up
        with torch.no_grad():
            self.seen += len(batch)
        return result


def net(norm=True):
    torch.manual_seed(5)
    layers = [torch.nn.Flatten(), torch.nn.Linear(36, 12), torch.nn.BatchNorm1d(12), torch.nn.ReLU()]
    layers += [torch.nn.Dropout(0.3), torch.nn.Linear(12, 3)]
    return torch.nn.Sequential(*(layer for layer in layers if norm or not isinstance(layer, torch.nn.BatchNorm1d)))


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(330) % 3
    return torch.randn(330, 1, 6, 6, generator=draw) + labels.view(-1, 1, 1, 1), labels


def test_same_names_same_bytes(data, trainer, weights_bytes):
    found = []
    for names in (("test", 0), ("test", 0), ("other", 0), ("test", 1)):
        network = net()
        made = trainer(network, "clean", {}, *data)
        made.names = names
        history = made.run()
        found.append((weights_bytes(network), str(history)))
    assert found[0] == found[1] and len({weights for weights, _ in found}) == 3
    assert history[-1]["test_accuracy"] > 0.6 > history[0]["test_accuracy"]


def test_models_of_one_sweep_see_the_same_order_and_have_other_draws(data, trainer):
    found = []
    for names in (("test", 0), ("other", 0), ("test", 1)):
        made = trainer(net(), "clean", {}, *data)
        made.names, seen, drawn = names, [], []
        inner = made.batch

        def watched(positions, inner=inner, seen=seen, drawn=drawn):
            seen.append(positions)
            drawn.append(torch.rand(1).item())
            return inner(positions)

        made.batch = watched
        made.run()
        found.append((torch.cat(seen).tolist(), drawn))
    (one, other, seeded), draws = zip(*found, strict=True)
    assert one == other != seeded and one[:330] != one[330:]
    assert draws[0] != draws[1] and len(set(draws[0])) == len(draws[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "defense", ["clean", "parseval", "alternating", "fgsm-training", "logit-pairing", "perceptual-prior"]
)
def test_interrupted_at_random_steps_gives_the_same_bytes(optimizer, defense, data, trainer, weights_bytes, tmp_path):
    options = {
        "optimizer": optimizer,
        "weight_decay": 0.01,
        "drops": {1: 0.5},
        "augmentation": ["random-crop"],
    }
    options |= {"epochs": 2.5, "batch_size": 10}  # 33 steps an epoch: one save within each
    options["probes"] = [{"probe": "logit-margins", "every": 4}, {"probe": "rho-2", "parameters": {"iterations": 1}}]
    toy, defense = defense == "alternating", "clean" if defense == "alternating" else defense

    def wrapped(inner, call):
        return Fragile(Alternating(inner.parameters, inner.network) if toy else inner, call)

    whole = net()
    made = trainer(whole, defense, {}, *data, wrap=lambda d: wrapped(d, 10**6), **options)
    history, trace, state = made.run(), made.trace.parquet(), made.defense.state()
    draw, restarts = random.Random(f"{optimizer} {defense}"), 0
    for call in [*(draw.randrange(1, 40) for _ in range(10)), 10**6]:
        network = net()
        made = trainer(
            network, defense, {}, *data, tmp_path / "r", wrap=lambda d, call=call: wrapped(d, call), **options
        )
        try:
            found = made.run()
            break
        except Interrupted:
            restarts += 1
    assert restarts >= 2
    assert weights_bytes(network) == weights_bytes(whole) and str(found) == str(history)
    assert made.trace.parquet() == trace and len(made.trace.rows) == 2 * (1 + 82 // 4) + 4
    assert all(torch.equal(tensor, state[name]) for name, tensor in made.defense.state().items())
    assert not toy or (state["seen"].item() == 820 and state["scale"].item() != 1)


def test_each_interruption_alone_gives_the_same_bytes(data, trainer, weights_bytes, tmp_path):
    whole = net()
    trainer(whole, "clean", {}, *data).run()
    for call in random.Random(1).sample(range(66), 10):
        folder = tmp_path / str(call)
        with pytest.raises(Interrupted):
            trainer(net(), "clean", {}, *data, folder, wrap=lambda d, call=call: Fragile(d, call)).run()
        assert (folder / "state.safetensors").exists() == (call >= 25)
        network = net()
        trainer(network, "clean", {}, *data, folder).run()
        assert weights_bytes(network) == weights_bytes(whole), call


def test_resuming_does_not_repeat_finished_steps(data, trainer, tmp_path):
    with pytest.raises(Interrupted):
        trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 40)).run()
    made = trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 33))
    assert len(made.run()) == 3 and made.defense.left == 0  # it went on after the 33 steps of the first epoch


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


HARMS = [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b"\xff" * len(b)]
HARMS += [lambda b: flipped(b, -3), lambda b: flipped(b, len(b) // 2), lambda b: b.replace(b"33", b"32", 1)]


@pytest.mark.parametrize("harm", HARMS)
def test_a_torn_state_restarts_with_the_same_bytes(harm, data, trainer, weights_bytes, tmp_path):
    whole, network = net(), net()
    trainer(whole, "clean", {}, *data).run()
    with pytest.raises(Interrupted):
        trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 40)).run()
    state = tmp_path / "state.safetensors"
    state.write_bytes(harm(state.read_bytes()))
    made = trainer(network, "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 66))
    made.run()
    assert made.defense.left == 0 and weights_bytes(network) == weights_bytes(whole)


def test_a_state_of_other_code_is_not_taken_up(data, trainer, tmp_path, capsys):
    with pytest.raises(Interrupted):
        trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 40)).run()
    for origin, left, told in (("other", 0, ""), ("", 33, "resumed after step 33 of 66\n")):
        made = trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, 66))
        made.resume.made_by, made.resume.save = lambda own=origin: own, lambda tensors, facts: None
        made.run()
        assert made.defense.left == left and capsys.readouterr().err == told


def test_nothing_is_kept_without_a_folder(tmp_path):
    resume = Resume(None, every=0)
    assert not resume.due() and resume.load() is None
    resume.save({"a": torch.ones(1)}, {})
    resume.clear()


def test_learning_rate_drops_at_the_right_step(data, trainer):
    rates = []

    class Watched(BaseDefense):
        def step(self, batch, moment, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])
            assert (moment.step, moment.epoch) == (len(rates) - 1, (len(rates) - 1) // 10)
            assert (moment.steps_per_epoch, moment.count, len(batch)) == (10, 330, 33)
            assert torch.equal(batch.labels, data[1][batch.positions])
            return super().step(batch, moment, optimizer)

    options = {"learning_rate": 0.08, "drops": {1: 0.5, 1.5: 0.1}, "batch_size": 33}
    made = trainer(net(), "clean", {}, *data, wrap=lambda d: Watched(d.parameters, d.network), **options)
    history = made.run()
    assert rates == pytest.approx([0.08] * 10 + [0.04] * 5 + [0.004] * 5)
    assert [row.get("learning_rate") for row in history] == pytest.approx([None, 0.08, 0.004], nan_ok=True)
    assert [row["epoch"] for row in history] == [0, 1, 2]


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1.0), (2.99, 1.0), (3, 0.5), (4.5, 0.05)])
def test_drops_multiply(epoch, rate):
    schedule = Training(epochs=5, batch_size=1, learning_rate=1.0, drops={3: 0.5, 4: 0.1})
    assert learning_rate(schedule, epoch) == pytest.approx(rate)


def test_every_image_is_seen_once_an_epoch(data, trainer):
    made, seen = trainer(net(), "clean", {}, *data, batch_size=100, epochs=1.5), []
    inner = made.batch
    made.batch = lambda positions: (seen.append(positions), inner(positions))[1]
    history = made.run()
    assert [len(part) for part in seen] == [100, 100, 100, 30, 100, 100]
    assert sorted(torch.cat(seen[:4]).tolist()) == list(range(330))
    assert torch.cat(seen[:2]).tolist() != torch.cat(seen[4:]).tolist() and history[-1]["epoch"] == 1.5


OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.8, weight_decay=0.02),
    "nesterov": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.8, weight_decay=0.02, nesterov=True),
    "adam": lambda weights: torch.optim.Adam(weights, 0.1, betas=(0.8, 0.999), weight_decay=0.02),
}
COMMON = {"epochs": 1, "batch_size": 1, "learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02}


def schedule(name):
    return Training(**COMMON, optimizer="adam" if name == "adam" else "sgd", nesterov=name == "nesterov")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torch_and_their_state_comes_back_by_name(name, weights_bytes):
    ours, theirs = net(), net()
    for network in (ours, theirs):
        next(network.parameters()).requires_grad_(False)
    optimizer = NamedOptimizer(ours, BaseDefense(None, ours), schedule(name))
    reference = OPTIMIZERS[name]([weight for weight in theirs.parameters() if weight.requires_grad])
    before = weights_bytes(ours)
    for step in range(6):
        for network in (ours, theirs):
            for place, weight in enumerate(network.parameters()):
                skipped = not weight.requires_grad or (place + step) % 3 == 0  # a weight without a gradient stays
                generator = torch.Generator().manual_seed(10 * step + place)
                weight.grad = None if skipped else torch.randn(weight.shape, generator=generator)
        optimizer.set_learning_rate(0.1 if step < 3 else 0.05)
        optimizer.torch.step()
        reference.param_groups[0]["lr"] = 0.1 if step < 3 else 0.05
        reference.step()
        assert weights_bytes(ours) == weights_bytes(theirs) != before
        state = {key: tensor.clone() for key, tensor in optimizer.tensors().items()}
        optimizer = NamedOptimizer(ours, BaseDefense(None, ours), schedule(name))
        optimizer.load(state)
    assert {key.rsplit(".", 1)[0] for key in state} == {f"network.{key}" for key in ("1.bias", *LATER)}


LATER = ("2.weight", "2.bias", "5.weight", "5.bias")


class Grouped(BaseDefense):
    given = ()

    def groups(self):
        return [Group(**group) for group in self.given]


def test_groups_have_their_own_learning_rate_and_weight_decay():
    network = net()
    defense = Grouped(None, network)
    defense.given = [{"weights": ["5"], "learning_rate": 0.1}, {"weights": [network[1].bias], "weight_decay": 0.0}]
    optimizer = NamedOptimizer(network, defense, schedule("sgd"))
    optimizer.set_learning_rate(2.0)
    rest, last, bias = optimizer.torch.param_groups
    assert (rest["lr"], last["lr"], bias["lr"]) == (2.0, 0.2, 2.0)
    assert (rest["weight_decay"], last["weight_decay"], bias["weight_decay"]) == (0.02, 0.02, 0.0)
    assert [len(group["params"]) for group in (rest, last, bias)] == [3, 2, 1]
    assert last["params"][0] is network[5].weight and bias["params"][0] is network[1].bias


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"weights": ["fc9"]}], "'fc9' is no weight of the network or of its state"),
        ([{"weights": [torch.ones(3)]}], r"a tensor \(3,\) is no weight"),
        ([{"weights": ["5"]}, {"weights": ["5.bias"]}], r"network\.5\.bias is in two of them"),
    ],
)
def test_groups_that_name_no_weight_are_refused(groups, message):
    network = net()
    defense = Grouped(None, network)
    defense.given = groups
    with pytest.raises(RedoubtError, match=message):
        NamedOptimizer(network, defense, schedule("sgd"))


def test_nesterov_needs_sgd_with_momentum():
    for wrong in ({"optimizer": "adam"}, {"momentum": 0.0}):
        with pytest.raises(ValueError, match="nesterov: true needs"):
            Training(**{**COMMON, "nesterov": True, **wrong})


def test_probes_change_no_number_and_are_asked_in_time(data, trainer, weights_bytes):
    plain, probed = net(), net()
    history = trainer(plain, "clean", {}, *data, batch_size=33, epochs=1.5).run()
    probes = [{"probe": "logit-margins", "every": 4}, {"probe": "epoch-time"}]
    made = trainer(probed, "clean", {}, *data, batch_size=33, epochs=1.5, probes=probes)
    assert str(made.run()) == str(history) and weights_bytes(probed) == weights_bytes(plain)
    frame = pd.read_parquet(io.BytesIO(made.trace.parquet()))
    assert frame.columns.tolist() == ["epoch", "step", "probe", "measure", "value"]
    margins = frame[frame["measure"] == "test_margin"]
    assert margins["step"].tolist() == [0, 4, 8, 12] and margins["epoch"].tolist() == [0, 0.4, 0.8, 1.2]
    assert margins["value"].iloc[-1] > margins["value"].iloc[0]
    times = frame[frame["probe"] == "epoch-time"]
    assert times["epoch"].tolist() == [1.0, 1.5] and (times["value"] > 0).all()
    made.trace.measure(15, 1.5, 7.0, boundary=True)  # between epochs, and no fourth step: the time alone
    assert len(made.trace.rows) == len(frame) + 1 and made.trace.rows[-1][3] == 7.0
    made.trace.measure(16, 1.6, 0.0, boundary=False)
    logits = probed.eval()(data[0][:20]).double().detach()
    others = [torch.cat([row[:label], row[label + 1 :]]) for row, label in zip(logits, data[1], strict=False)]
    margin = sum(float(row[label] - other.max()) for row, label, other in zip(logits, data[1], others, strict=False))
    assert made.trace.rows[-2][3] == pytest.approx(margin / 20, rel=1e-6)
    assert made.trace.rows[-1][3] == pytest.approx(float((logits.amax(1) - logits.amin(1)).mean()), rel=1e-6)


def test_a_probe_of_finished_models_is_refused(data, trainer):
    with pytest.raises(RedoubtError, match="peer-graph is for finished models; ask for it in attacks"):
        options = {"probe": "peer-graph"}
        trainer(net(), "clean", {}, *data, probes=[options])
    with pytest.raises(RedoubtError, match="'rho' is not one of epoch-time"):
        trainer(net(), "clean", {}, *data, probes=[{"probe": "rho"}])
    with pytest.raises(ValueError, match="a probe is given twice"):
        trainer(net(), "clean", {}, *data, probes=[{"probe": "rho-2"}, {"probe": "rho-2", "every": 3}])


@pytest.mark.parametrize(("batch", "epochs"), [(47, 1), (1, 0.01)])
def test_a_batch_of_one_image_is_refused_before_any_work(batch, epochs, data, trainer):
    with pytest.raises(RedoubtError, match=r"training\.batch_size: 330 images in batches of .* change batch_size"):
        trainer(net(), "clean", {}, *data, batch_size=batch, epochs=epochs, wrap=lambda d: Fragile(d, 0)).run()


def test_a_batch_of_one_image_is_taken_where_the_network_can(data, trainer):
    assert len(trainer(net(norm=False), "clean", {}, *data, batch_size=47, epochs=1).run()) == 2
    assert len(trainer(net(), "clean", {}, *data, batch_size=47, epochs=1, frozen=True).run()) == 2
    assert len(trainer(net(), "clean", {}, *data, batch_size=47, epochs=0.9).run()) == 2  # ends before that batch


def test_a_loss_that_is_not_finite_ends_in_one_line(data, trainer, tmp_path):
    with pytest.raises(
        RedoubtError, match=r"loss is not finite .* step 25 of 66; lower training\.learning_rate"
    ) as caught:
        trainer(net(norm=False), "clean", {}, *data, tmp_path, learning_rate=1e30).run()
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_batch_norm_is_frozen_in_fine_tuning(data, trainer, weights_bytes):
    for frozen in (True, False):
        network = net()
        before = copy.deepcopy(network.state_dict())
        trainer(network, "clean", {}, *data, frozen=frozen).run()
        same = {name: torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()}
        assert all(same[name] == frozen for name in same if name.startswith("2.")), same
        assert not any(same[name] for name in ("1.weight", "5.weight", "5.bias"))
    freeze_batch_norm(network.train())
    assert not network[2].training and network[4].training


def test_flips_mirror_about_half_of_the_images():
    images = torch.arange(200 * 12.0).view(200, 1, 3, 4)
    torch.manual_seed(0)
    found = augment(images, ["horizontal-flip"])
    flipped = (found == images.flip(3)).flatten(1).all(1)
    assert ((found == images).flatten(1).all(1) ^ flipped).all() and 70 < int(flipped.sum()) < 130
    assert augment(images, []) is images


def test_crops_move_by_up_to_four_pixels_over_zeros():
    images = torch.rand(300, 2, 8, 8) + 1
    torch.manual_seed(0)
    found = augment(images, ["random-crop"])
    padded = torch.nn.functional.pad(images, [4] * 4)
    places = set()
    for number in range(300):
        fits = [
            (row, column)
            for row in range(9)
            for column in range(9)
            if torch.equal(found[number], padded[number, :, row : row + 8, column : column + 8])
        ]
        assert len(fits) == 1
        places.update(fits)
    assert {row for row, _ in places} == {column for _, column in places} == set(range(9)) and len(places) > 60


def test_nothing_is_drawn_where_standard_error_is_no_terminal(data, trainer, capfd):
    trainer(net(), "clean", {}, *data).run()
    assert capfd.readouterr() == ("", "")
