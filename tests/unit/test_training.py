"""The training loop: same bytes, interrupted or not; schedules, augmentation and what is refused."""

import copy
import random
import subprocess
import sys

import pytest
import torch

from redoubt.errors import RedoubtError
from redoubt.study.entries.model import Training
from redoubt.training.loop import Resume, augment, freeze_batch_norm, learning_rate
from redoubt.training.updates import Updates


class Interrupted(Exception):
    """Stands in for a kill at some step."""


class Fragile:
    """A defense that fails at one call of its loss."""

    def __init__(self, inner, call):
        self.inner, self.left = inner, call

    def loss(self, inputs, labels):
        if self.left == 0:
            raise Interrupted
        self.left -= 1
        return self.inner.loss(inputs, labels)

    def after_step(self):
        self.inner.after_step()


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


def test_same_identity_same_bytes(data, trainer, weights_bytes):
    found = []
    for identity in ("test", "test", "other"):
        network = net()
        made = trainer(network, "clean", {}, *data)
        made.identity = identity
        history = made.run()
        found.append((weights_bytes(network), str(history)))
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] != found[2][1]
    assert history[-1]["test_accuracy"] > 0.6 > history[0]["test_accuracy"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("defense", ["clean", "parseval"])
def test_interrupted_at_random_steps_gives_the_same_bytes(optimizer, defense, data, trainer, weights_bytes, tmp_path):
    options = {
        "optimizer": optimizer,
        "weight_decay": 0.01,
        "drops": {1: 0.5},
        "augmentation": ["random-crop"],
    }
    options |= {"epochs": 2.5, "batch_size": 10}  # 33 steps an epoch: one save within each
    whole = net()
    history = trainer(whole, defense, {}, *data, **options).run()
    draw, restarts = random.Random(f"{optimizer} {defense}"), 0
    for call in [*(draw.randrange(1, 40) for _ in range(10)), 10**6]:
        network = net()
        made = trainer(
            network, defense, {}, *data, tmp_path / "r", wrap=lambda d, call=call: Fragile(d, call), **options
        )
        try:
            found = made.run()
            break
        except Interrupted:
            restarts += 1
    assert restarts >= 2
    assert weights_bytes(network) == weights_bytes(whole) and str(found) == str(history)


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
        made.resume.origin, made.resume.save = origin, lambda tensors, facts: None
        made.run()
        assert made.defense.left == left and capsys.readouterr().err == told


def test_nothing_is_kept_without_a_folder(tmp_path):
    resume = Resume(None, every=0)
    assert not resume.due() and resume.load() is None
    resume.save({"a": torch.ones(1)}, {})
    resume.clear()


def test_learning_rate_drops_at_the_right_step(data, trainer):
    rates = []

    def watch(rate):
        rates.append(rate)
        inner(rate)

    made = trainer(net(), "clean", {}, *data, learning_rate=0.08, drops={1: 0.5, 1.5: 0.1}, batch_size=33)
    inner, made.updates.step = made.updates.step, watch
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
    "adam": lambda weights: torch.optim.Adam(weights, 0.1, betas=(0.8, 0.999), weight_decay=0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torch(name, weights_bytes):
    ours, theirs = net(), net()
    for network in (ours, theirs):
        next(network.parameters()).requires_grad_(False)
    common = {"epochs": 1, "batch_size": 1, "learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02}
    updates = Updates(ours, Training(**common, optimizer=name))
    optimizer = OPTIMIZERS[name]([weight for weight in theirs.parameters() if weight.requires_grad])
    before = weights_bytes(ours)
    for step in range(6):
        for network in (ours, theirs):
            for place, weight in enumerate(network.parameters()):
                skipped = not weight.requires_grad or (place + step) % 3 == 0  # a weight without a gradient stays
                generator = torch.Generator().manual_seed(10 * step + place)
                weight.grad = None if skipped else torch.randn(weight.shape, generator=generator)
        updates.step(0.1 if step < 3 else 0.05)
        optimizer.param_groups[0]["lr"] = 0.1 if step < 3 else 0.05
        optimizer.step()
        assert weights_bytes(ours) == weights_bytes(theirs) != before
    updates.zero_grad()
    assert all(weight.grad is None for weight in updates.weights.values())


def test_training_does_not_import_the_compiler():
    code = (
        "import sys, torch; from redoubt.training.updates import Updates\n"
        "from redoubt.study.entries.model import Training\n"
        "net = torch.nn.Linear(3, 3); net(torch.ones(1, 3)).sum().backward()\n"
        "updates = Updates(net, Training(epochs=1, batch_size=1, learning_rate=0.1)); updates.step(0.1)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
