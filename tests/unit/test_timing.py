"""The inspection of cost: what is timed, against a clock that the test turns, and its table."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from artifact_entries import artifact_entry, needs_of

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft
from redoubt.evaluation.run import write_rows
from redoubt.judging.estimate import estimate
from redoubt.models.classifier import Classifier
from redoubt.networks._peers import PeerRegularization, add_peer_regularization
from redoubt.probes import _turns, timing

SHAPE = (1, 8, 8)
SMALL = {"batch": 6, "inference_batch": 5, "peers": 4, "repetitions": 3}


class Tick(torch.nn.Module):
    """Turns the clock by one and notes in which mode, and for how many images."""

    now = 0.0
    seen: tuple = ()

    def forward(self, inputs):
        Tick.now += 1.0
        Tick.seen = (*Tick.seen, (self.training, len(inputs), torch.is_grad_enabled()))
        return inputs


def base():
    nn = torch.nn
    layers = [Tick(), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 3))


def model(peers=5, draws=2):
    torch.manual_seed(0)
    made = add_peer_regularization(base(), ["1", "4"], SHAPE, peers, draws, neighbours=2)
    made.set_peers(torch.rand(20, *SHAPE))
    return Classifier(torch.nn.Identity(), made).eval()


IMAGES = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(9) % 3


@pytest.fixture
def clock(monkeypatch):
    """A clock that runs on by 1 for every pass through a network and by 2 for every pass through a peer layer."""
    forward = PeerRegularization.forward

    def counted(layer, maps):
        Tick.now += 2.0
        return forward(layer, maps)

    monkeypatch.setattr(PeerRegularization, "forward", counted)
    monkeypatch.setattr(_turns, "_now", lambda device, clock: Tick.now)
    Tick.seen = ()


def run(network, images=IMAGES, labels=LABELS, size=4, **parameters):
    checked = registry.parameters("probes", "timing", SMALL | parameters)
    context = Context(torch.Generator().manual_seed(5), bounds=(0.0, 1.0))
    return list(timing.run(network, Batches(images, labels, size), checked, context))


def test_ratios_against_a_known_clock(clock):
    network, Tick.seen = model(), ()
    parts = run(network, draws=3)
    found = {part.facts["what"]: part.facts for part in parts}
    # One pass through the network and two peer layers; recomputed, the three draws of peers pass too.
    expected = {"training": 1 + 2 * 2, "inference": 1 + 2 * 2, "inference, peers recomputed": 4 * (1 + 2 * 2)}
    assert list(found) == list(expected)
    for what, seconds in expected.items():
        assert found[what]["seconds"] == [seconds] * 3 and found[what]["seconds_plain"] == [1.0] * 3
    assert [found[what]["batch_size"] for what in expected] == [6, 5, 5]
    assert [found[what]["peers"] for what in expected] == [6, 4, 4]
    assert [found[what]["draws"] for what in expected] == [1, 3, 3]
    assert all(len(part.inputs) == 3 and torch.equal(part.inputs, IMAGES[:3]) and part.start == 0 for part in parts)
    steps = [seen for seen in Tick.seen if seen[0]]
    assert set(steps) == {(True, 6, True)} and len(steps) == 2 * (1 + 3)
    assert {seen for seen in Tick.seen if not seen[0]} == {(False, 5, False), (False, 4, False)}


def test_the_models_own_peers_and_draws(clock):
    parts = run(model(peers=5, draws=2), peers=None, draws=None)
    found = {part.facts["what"]: part.facts for part in parts}
    assert (found["inference"]["peers"], found["inference"]["draws"]) == (5, 2)
    assert found["inference, peers recomputed"]["seconds"] == [15.0] * 3
    assert (False, 5, False) in Tick.seen


def test_peers_come_from_the_model_and_then_from_the_images():
    network, generator = model().network, torch.Generator().manual_seed(0)
    pool = {tuple(peer.flatten().tolist()) for peer in network.peers}
    own, _ = timing.pair(network, IMAGES, timing.Parameters(peers=8, draws=2), generator)
    assert own.peers.shape == (16, *SHAPE) and {tuple(peer.flatten().tolist()) for peer in own.peers} <= pool
    assert (own.count, own.draws) == (8, 2)
    more, _ = timing.pair(network, IMAGES, timing.Parameters(peers=19), generator)
    assert {tuple(peer.flatten().tolist()) for peer in more.peers} == pool | {
        tuple(image.flatten().tolist()) for image in IMAGES
    }
    with pytest.raises(RedoubtError, match="timing: 20 peers asked for; model and images have 19; raise"):
        timing.pair(network, IMAGES, timing.Parameters(peers=20), generator)


def test_without_peers_it_is_the_network_that_it_was():
    torch.manual_seed(4)
    network = base().eval()
    expected = network(IMAGES)
    whole = add_peer_regularization(network, ["1", "4"], SHAPE, 5, 2, neighbours=2)
    whole.set_peers(IMAGES)
    plain = timing.pair(whole, IMAGES, timing.Parameters(peers=5), torch.Generator())[1].eval()
    assert torch.equal(plain(IMAGES), expected)
    assert not any(isinstance(part, PeerRegularization) for part in plain.modules())
    assert sum(isinstance(part, PeerRegularization) for part in whole.modules()) == 2


def test_pieces_of_work_take_turns():
    done, ticks = [], itertools.count()
    lengths = {"a": 1, "b": 2, "c": 3}

    def work(name):
        done.append(name)
        for _ in range(lengths[name]):
            next(ticks)

    works = {name: (lambda name=name: work(name)) for name in lengths}
    times = _turns.in_turn(works, 3, torch.device("cpu"), clock=lambda: float(next(ticks)))
    assert done == [*"abc", *"abc", *"cba", *"abc"]
    assert times == {"a": [2.0] * 3, "b": [3.0] * 3, "c": [4.0] * 3}


def test_the_ratio_is_a_median_of_neighbours():
    assert _turns.ratio([2.0, 30.0, 18.0], [1.0, 10.0, 2.0]) == 3.0
    rows = pd.DataFrame({"seconds": [2.0, 30.0, 18.0], "seconds_plain": [1.0, 10.0, 2.0]})
    found = estimate("time-ratio", rows)
    assert (found.value, found.low, found.high, found.n) == (3.0, 2.0, 9.0, 3)


def test_it_leaves_the_model_alone(snapshot, unchanged):
    network, images = model(), IMAGES.clone()
    before, state, logits = snapshot(network), torch.random.get_rng_state(), network(IMAGES)
    result = craft("timing", network, images, LABELS, batch_size=2, **SMALL)
    assert unchanged(before, network) and torch.equal(images, IMAGES) and not images.requires_grad
    assert torch.equal(state, torch.random.get_rng_state()) and torch.equal(network(IMAGES), logits)
    rows = result.rows
    assert rows["what"].tolist() == ["training"] * 3 + ["inference"] * 3 + ["inference, peers recomputed"] * 3
    assert rows["index"].tolist() == [0, 1, 2] * 3 and (rows["seconds"] > 0).all() and (rows["seconds_plain"] > 0).all()
    assert not rows["success"].any() and (rows["l2"] == 0).all() and set(rows["device"]) == {"cpu"}


def test_training_is_timed_on_copies(clock):
    network = model()
    own, plain = timing.pair(network.network, IMAGES, timing.Parameters(peers=5), torch.Generator())
    weights = [parameter.clone() for parameter in network.parameters()]
    for part in (own, plain):
        before = [parameter.detach().clone() for parameter in part.parameters()]
        timing.training_step(part.train(), IMAGES, LABELS)()
        changed = [not torch.equal(*pair) for pair in zip(before, part.parameters(), strict=True)]
        assert sum(changed) >= 6
    assert all(torch.equal(*pair) for pair in zip(weights, network.parameters(), strict=True))


def test_preprocessing_comes_first(clock):
    seen = []

    class Note(torch.nn.Module):
        def forward(self, images):
            return 2.0 * images

    class Watch(Tick):
        def forward(self, inputs):
            seen.append(inputs)
            return super().forward(inputs)

    network = model()
    network.network.network[0] = Watch()
    network.preprocessing = Note()
    run(network.eval())
    assert torch.equal(seen[0], 2.0 * IMAGES[:6])


def test_too_few_images_are_refused():
    for parameters, needed in (({"batch": 10}, 10), ({"inference_batch": 11}, 11), ({"repetitions": 12}, 12)):
        with pytest.raises(RedoubtError, match=f"timing: {needed} images needed, 9 are attacked; raise select.images"):
            run(model(), **parameters)
    with pytest.raises(RedoubtError, match="has no peer networks"):
        run(torch.nn.Flatten())


# -- table ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path):
    def make(**parameters):
        inputs = []
        for need in needs_of("timing-table", parameters):
            file = tmp_path / need.model / "seed-0" / "timing.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                {"what": what, "seconds": seconds * (1 + row), "seconds_plain": 1.0 + row, "index": row}
                for what, seconds in (("training", 2.0), ("inference", 3.0), ("inference, peers recomputed", 5.0))
                for row in range(3)
            ]
            facts = {"batch_size": 64, "peers": 100, "draws": 1, "device": "cpu", "threads": 2}
            write_rows(pd.DataFrame(rows).assign(**facts), file, {"model": need.model, "shape": "[1, 8, 8]"})
            missing = "no data" if need.model == "gone" else None
            inputs.append({"model": need.model, "attack": need.attack, "missing": missing, "files": [str(file)]})
        published = tmp_path / "published.csv"
        lines = ["a,training ratio,2.14,ratio", "a,inference ratio,3.75,ratio", "gone,training ratio,9,ratio"]
        published.write_text("\n".join(["artifact,row,column,value,unit", *(f"timing,{line}" for line in lines), ""]))
        texts = {"title": "A title", "caption": "A caption.", "stamp": "a stamp", "study": "s", "id": "timing"}
        facts = {"published": str(published), "comparable": True, "verdict": {"rate": 0.0, "mean": 0.1}}
        models = {name: {"network": f"Net {name}"} for name in ("a", "gone")}
        return artifact_entry("timing-table", parameters, models, inputs=inputs, **texts, **facts)

    return make


def test_the_table_sets_ratios_beside_the_printed_ones(entry):
    made = drawing.draw(entry(attack="timing", models=["a", "gone"], show=["network"]))
    cells = made.data.set_index(["row", "column"])
    assert cells.loc["a", "reproduced"].tolist() == [2.0, 3.0, 5.0]
    assert cells.loc["a", "published"].tolist()[:2] == [2.14, 3.75] and np.isnan(cells.loc["a", "published"].iloc[2])
    assert cells.loc["a", "verdict"].tolist() == ["reproduced", "deviates", "not-comparable"]
    assert cells.loc["a", "n"].tolist() == [3] * 3 and set(cells.loc["a", "metric"]) == {"time-ratio"}
    assert cells.loc["a", "seconds"].tolist() == [4.0, 6.0, 10.0] and set(cells.loc["a", "seconds_plain"]) == {2.0}
    assert cells.loc["gone", "verdict"].tolist() == ["not-run"] * 3 and set(cells.loc["gone", "reason"]) == {"no data"}
    lines = made.text.splitlines()
    assert lines[0] == "# A title" and "_a stamp_" in lines and "- not run: no data" in lines
    assert (
        "| Net a | training ratio | 64 | 100 | 1 | 4 | 2 | 2.14 | **2** [2, 2] | reproduced |" in lines
        and "| Net gone | training ratio |  |  |  |  |  | 9 | not run |  |" in lines
    )
    assert "- 3 measurements each on cpu, threads: 2" in lines
    rules = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rules}) == 1 and len(rules) == 2 + 6


def test_a_table_that_may_not_be_compared_says_why(entry):
    made = drawing.draw(entry(attack="timing", models=["a", "gone"], apart="another machine"))
    assert made.data["verdict"].tolist() == ["not-comparable"] * 3 + ["not-run"] * 3
    assert made.data["reason"].tolist() == ["another machine"] * 3 + ["no data"] * 3
    assert made.data["reproduced"].tolist()[:3] == [2.0, 3.0, 5.0]
