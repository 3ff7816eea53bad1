"""The inspection of peer graphs: neighbours and Franken-images known beforehand, and the two figures made of it."""

import json
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from artifact_entries import artifact_entry, needs_of

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.artifacts import _style as style
from redoubt.artifacts.peer_graph import span
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft
from redoubt.evaluation.run import attack, write_rows
from redoubt.models import classifier
from redoubt.models.classifier import Classifier
from redoubt.networks import add_peer_regularization
from redoubt.preprocessing._layers import Standardised, Whitened
from redoubt.probes import peer_graph
from redoubt.rows import read_rows, read_shared

ROOT = Path(__file__).resolve().parents[2]


def drawn(shape, count=40, seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def plain(shape, step=1):
    """A network whose feature map is the image itself, or of a larger step the means of its blocks."""
    nn = torch.nn
    layers = OrderedDict(conv=nn.Conv2d(shape[0], shape[0], step, step, bias=False), flatten=nn.Flatten())
    layers["fc"] = nn.Linear(shape[0] * (shape[1] // step) * (shape[2] // step), 3)
    layers["conv"].weight.data.copy_(torch.eye(shape[0])[:, :, None, None].expand(-1, -1, step, step) / step**2)
    return nn.Sequential(layers)


def peered(network, after, shape, peers=4, draws=1, images=None, **options):
    torch.manual_seed(1)
    made = add_peer_regularization(network, after, shape, peers, draws, **options)
    if images is None:
        made.set_peers(drawn(shape), torch.Generator().manual_seed(2))
    else:
        made.peers.copy_(images)
    return made.eval()


def built(name, shape, after, draws=3, **options):
    """A registered network with peer layers, its weights as they are at first; peers may link to themselves."""
    torch.manual_seed(0)
    method = registry.method("networks", name)
    network = method.build(method.Parameters(**{"width": 0.25, **options}), shape, 10)
    return peered(network, after, shape, 5, draws, neighbours=1, own_pixels="training")


def inspect(model, images, **parameters):
    """Rows and shared tensors of a probe."""
    checked = registry.parameters("probes", "peer-graph", parameters)
    labels = torch.zeros(len(images), dtype=torch.int64)
    context = Context(torch.Generator(), bounds=(0.0, 1.0))
    parts = list(peer_graph.run(model, Batches(images, labels, 1000), checked, context))
    assert len(parts) == 1 and parts[0].start == 0 and torch.equal(parts[0].inputs, images)
    return parts[0].facts, parts[0].shared


# Two peers of two pixels each: the image's red pixel is nearest to the first of peer 0, its green one to that of peer 1
COLOURS = torch.tensor(
    [[[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]], [[0.0, 0.6, 0.2], [0.5, 0.5, 0.5]], [[0.5, 0.0, 0.0], [0.1, 0.9, 0.2]]]
)
PEERS, IMAGE = (part.permute(0, 2, 1)[:, :, None] for part in (COLOURS[:2], COLOURS[2:]))


def test_two_pixels_by_hand():
    model = peered(plain((3, 1, 2)), ["conv"], (3, 1, 2), 2, images=PEERS, neighbours=1)
    facts, shared = inspect(model, IMAGE, pixels=[(0, 1), (0, 0)])
    assert facts["layer"] == "conv" and facts["draw"] == 0 and facts["channels"] == 3
    assert facts["places"][0].tolist() == [0, 1, 0, 0]
    assert facts["features"][0].tolist() == pytest.approx([0.1, 0.9, 0.2, 0.5, 0, 0])
    assert facts["peers"][0].tolist() == [1, 0]
    assert facts["peer_places"][0].tolist() == [0, 0, 0, 0]
    assert facts["peer_features"][0].tolist() == pytest.approx([0.0, 0.6, 0.2, 0.9, 0.1, 0.0])
    assert facts["attention"][0].tolist() == [1, 1]
    green = (0.9 * 0.6 + 0.2 * 0.2) / (0.86**0.5 * 0.4**0.5)
    assert facts["similarity"][0].tolist() == pytest.approx([green, 0.9 / 0.82**0.5])
    franken = torch.tensor([[0.9, 0.0], [0.1, 0.6], [0.0, 0.2]])
    assert torch.allclose(torch.tensor(facts["franken"][0]).view(3, 2), franken)
    assert torch.equal(facts["franken_label"], model(franken[None, :, None]).argmax(1))
    assert torch.equal(shared["peers"], PEERS) and shared["cell"].tolist() == [1, 1]


def test_attention_weighs_the_colours():
    model = peered(plain((3, 1, 2)), ["conv"], (3, 1, 2), 2, images=PEERS, neighbours=2)
    layer = model.layers["conv"]
    with torch.no_grad():
        layer.score.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0, -2.0]]))
        layer.score.bias.fill_(0.5)
    facts, _ = inspect(model, IMAGE, pixels=[(0, 0)])
    # Red is nearest to (.9, .1, 0) and then to grey: a = 0.5 + 0.9, and 0.5 + 0.5 - 1 = 0 behind LeakyReLU.
    assert list(zip(facts["peers"][0], facts["peer_places"][0].reshape(2, 2)[:, 1], strict=True)) == [(0, 0), (1, 1)]
    assert facts["peer_features"][0].tolist() == pytest.approx([0.9, 0.1, 0.0, 0.5, 0.5, 0.5])
    first = np.exp(1.4) / (np.exp(1.4) + 1)
    assert facts["attention"][0].tolist() == pytest.approx([first, 1 - first])
    mixed = first * np.array([0.9, 0.1, 0.0]) + (1 - first) * 0.5
    assert facts["franken"][0].reshape(3, 2)[:, 0].tolist() == pytest.approx(mixed.tolist())


def test_the_model_looks_at_the_franken_image():
    shape = (3, 6, 6)
    model, images = peered(plain(shape), ["conv"], shape, neighbours=4), drawn(shape, 400, seed=11)
    with torch.no_grad():
        weight = torch.nn.init.normal_(model.network.fc.weight)
        weight -= weight.mean(1, keepdim=True)
    facts, _ = inspect(model, images, pixels=[(1, 1)])
    franken = torch.tensor(np.stack(facts["franken"])).view_as(images)
    assert torch.equal(facts["franken_label"], model(franken).argmax(1))
    assert not torch.equal(facts["franken_label"], model(images).argmax(1))


def test_peers_are_named_right_although_copies_are_left_out():
    # Three peers of one colour, two of which are searched; the fourth is nearest to the image.
    images = torch.tensor([[0.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0]]).view(4, 3, 1, 1)
    model = peered(plain((3, 1, 1)), ["conv"], (3, 1, 1), images=images, neighbours=1)
    facts, _ = inspect(model, torch.tensor([0.8, 0.1, 0.0]).view(1, 3, 1, 1), pixels=[(0, 0)])
    with model.linked() as features:
        assert len(features["conv"][0].features) == 3
    assert facts["peers"][0].tolist() == [3] and facts["franken"][0].tolist() == [1, 0, 0]


def test_patches_of_a_stride_are_moved_whole():
    shape = (3, 4, 6)
    model = peered(plain(shape, 2), ["conv"], shape, 5, neighbours=1)
    image = drawn(shape, 1, seed=7)
    facts, shared = inspect(model, image, pixels=[(3, 2)])
    means = [torch.nn.functional.avg_pool2d(part, 2) for part in (image, model.peers)]
    unit = [torch.nn.functional.normalize(part.permute(0, 2, 3, 1).reshape(-1, 3), dim=1) for part in means]
    expected = torch.empty(shape)
    for pixel, best in enumerate((unit[0] @ unit[1].T).argmax(1).tolist()):
        (row, column), (peer, place) = divmod(pixel, 3), divmod(best, 6)
        down, right = 2 * (place // 3), 2 * (place % 3)
        expected[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = model.peers[peer][
            :, down : down + 2, right : right + 2
        ]
    assert torch.equal(torch.tensor(facts["franken"][0]).view(shape), expected)
    assert facts["places"][0].tolist() == [2.5, 2.5] and shared["cell"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "options", "shape", "after", "rows"),
    [
        ("lenet5", {}, (1, 28, 28), "conv1", [2 + row for row in range(24)]),
        ("lenet5", {}, (1, 28, 28), "conv2", [6.5 + 2 * row for row in range(8)]),
        ("resnet-cifar", {"depth": 14}, (3, 32, 32), "stage2", [2 * row for row in range(16)]),
        ("resnet-cifar", {"depth": 14}, (3, 32, 32), "stage3", [4 * row for row in range(8)]),
        ("resnet-cifar", {"depth": 8}, (1, 28, 28), "stage3.0.conv2", [4 * row for row in range(7)]),
    ],
)
def test_centres_of_what_map_pixels_see(name, options, shape, after, rows):
    model = built(name, shape, [after], **options)
    found = peer_graph.centres(model, after)
    assert [part.tolist() for part in found] == [rows, rows]


def test_centres_by_what_a_pixel_depends_on():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, (3, 4), stride=(2, 1), padding=(1, 0)), torch.nn.MaxPool2d(2), torch.nn.Conv2d(2, 2, 3)
    )
    model = peered(network, ["2"], (1, 30, 20), neighbours=1)
    rows, columns = peer_graph.centres(model, "2")
    image = torch.rand(1, 1, 30, 20, requires_grad=True)
    # Smooth in place of largest, so that a pixel depends on all that it sees.
    smooth = torch.nn.Sequential(network[0], torch.nn.AvgPool2d(2), network[2].module)
    row, column = 2, 3
    (gradient,) = torch.autograd.grad(smooth(image)[0, 0, row, column], image)
    seen = gradient[0, 0].nonzero().double()
    middle = (seen.amin(0) + seen.amax(0)) / 2
    assert [rows[row].item(), columns[column].item()] == middle.tolist()


NETWORKS = [
    ("lenet5", {}, (1, 28, 28), ["conv1", "conv2"]),
    ("resnet-cifar", {"depth": 8, "width": 0.5}, (3, 32, 32), ["stage2", "stage3"]),
]


@pytest.mark.parametrize(("name", "options", "shape", "after"), NETWORKS)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_peer_is_its_own_franken_image(name, options, shape, after, layer):
    # In its own draw every pixel of a peer finds itself, in both layers; the other draws do not hold it.
    model = built(name, shape, after, **options)
    images = model.peers[[5, 9]].clone()
    own, _ = inspect(model, images, layer=layer, draw=1)
    assert own["layer"] == after[layer] and np.allclose(own["similarity"], 1.0, atol=1e-5)
    assert torch.equal(torch.tensor(np.stack(own["franken"])).view_as(images), images)
    assert own["peers"][0].tolist() == [0, 0, 0] and own["peers"][1].tolist() == [4, 4, 4]
    other, _ = inspect(model, images, layer=layer, draw=2)
    assert np.abs(np.stack(other["franken"]) - images.flatten(1).numpy()).mean() > 0.1
    assert np.mean(other["similarity"]) < 0.9999


def test_a_layer_that_averages_over_draws():
    shape = (1, 28, 28)
    torch.manual_seed(0)
    method = registry.method("networks", "lenet5")
    network = method.build(method.Parameters(width=0.25), shape, 10)
    model = peered(network, ["conv1", "conv2"], shape, 4, 3, neighbours=2, average="layers")
    facts, _ = inspect(model, drawn(shape, 2), layer="conv2", draw=2)
    assert np.allclose(np.sum(facts["attention"], 1), 3) and facts["layer"] == "conv2"


def test_rows_do_not_depend_on_the_batch():
    model = built("lenet5", (1, 28, 28), ["conv1", "conv2"])
    images, labels = drawn((1, 28, 28), 5, seed=3), torch.zeros(5, dtype=torch.int64)
    one, other = (craft("peer-graph", model, images, labels, layer=1, batch_size=size) for size in (5, 2))
    assert torch.equal(one.images, images) and not one.rows["success"].any() and (one.rows["l2"] == 0).all()
    for column in ("peers", "franken", "attention"):
        assert np.allclose(np.stack(one.rows[column]), np.stack(other.rows[column]), atol=1e-5)


def test_it_leaves_the_model_alone(snapshot, unchanged):
    model = Classifier(torch.nn.Identity(), built("lenet5", (1, 28, 28), ["conv1", "conv2"])).eval()
    images, labels = drawn((1, 28, 28), 3), torch.zeros(3, dtype=torch.int64)
    before, state, logits = snapshot(model), torch.random.get_rng_state(), model(images)
    context = Context(torch.Generator(), bounds=(0.0, 1.0))
    for part in peer_graph.run(model, Batches(images, labels, 2), peer_graph.Parameters(layer=1), context):
        assert torch.is_grad_enabled() and not part.inputs.requires_grad
    assert unchanged(before, model) and torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(model(images), logits)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_peers_are_shown_as_images():
    images = drawn((3, 4, 4), 6)
    layer = Standardised(3)
    layer.mean.copy_(torch.tensor([0.2, 0.4, 0.6]).view(-1, 1, 1))
    layer.std.copy_(torch.tensor([0.5, 2.0, 0.1]).view(-1, 1, 1))
    model = peered(plain((3, 4, 4)), ["conv"], (3, 4, 4), 6, images=layer(images), neighbours=1)
    facts, shared = inspect(Classifier(layer, model).eval(), images[:2], pixels=[(1, 1)])
    assert torch.allclose(shared["peers"], images, atol=1e-6)
    assert np.allclose(np.stack(facts["franken"]), images[:2].flatten(1), atol=1e-6)
    with pytest.raises(RedoubtError, match="Whitened cannot be turned back"):
        inspect(Classifier(Whitened((3, 4, 4), 1.0), model).eval(), images[:1], pixels=[(1, 1)])


def test_what_cannot_be_looked_at_is_refused():
    model = built("lenet5", (1, 28, 28), ["conv1", "conv2"])
    images = drawn((1, 28, 28), 1)
    two = torch.nn.Sequential(model, plain((1, 1, 1)), peered(plain((1, 1, 10)), ["conv"], (1, 1, 10), neighbours=1))
    for network, parameters, message in (
        (torch.nn.Flatten(), {}, "has no peer networks; give one whose defense is peernet"),
        (two, {}, "has 2 peer networks"),
        (lambda inputs: inputs, {}, "has no peer networks"),
        (model, {"layer": "conv3"}, r"layer: 'conv3' is not one of conv1, conv2 or 0 to 1"),
        (model, {"layer": 2}, r"layer: 2 is not one of conv1, conv2 or 0 to 1"),
        (model, {"draw": 3}, r"draw: 3 asked for, but the model has draws 0 to 2"),
        (model, {"pixels": [(3, 3), (5, 28)]}, r"pixels: \(5, 28\) is not in an image of 28 x 28 pixels"),
    ):
        with pytest.raises(RedoubtError, match=message) as caught:
            inspect(network, images, **parameters)
        assert "\n" not in str(caught.value)
    batches = Batches(images, torch.zeros(1, dtype=torch.int64), 1)
    with pytest.raises(RedoubtError, match="space: pixels"):
        next(peer_graph.run(model, batches, peer_graph.Parameters(), Context(torch.Generator())))


def test_it_says_what_it_is():
    for name in ("peer-graph", "timing"):
        method = registry.method("probes", name)
        assert method.THREAT.startswith("none") and method.COST and method.NEEDS and method.ENGINES == ("redoubt",)
        assert "Source:" in method.__doc__ and "Deviation" in method.__doc__
        assert all(field.description for field in method.Parameters.model_fields.values())


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inspected(tmp_path_factory, tiny_data, make_entry, make_attack, publish):
    """The file of a probe of six digits, as the attack step writes it."""
    folder = tmp_path_factory.mktemp("inspected") / "digits-lenet5-peernet" / "seed-0"
    folder.mkdir(parents=True)
    options = {"after": ["conv1", "conv2"], "neighbours": 3, "peers": 4, "draws": 2}
    entry = make_entry("lenet5", 0.2, defense="peernet", parameters=options)
    entry |= {"id": "digits-lenet5-peernet"}
    entry["defense"]["changes"] = True
    torch.manual_seed(0)
    model = classifier.build(entry, (1, 28, 28), 10)
    model.preprocessing.mean.fill_(30.0)
    model.network.set_peers(model.preprocessing(drawn((1, 28, 28))))
    files = publish(model, entry, folder)
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "classes": [f"digit {n}" for n in range(10)]}))
    parameters = {"layer": "conv2", "draw": 1, "pixels": [(8, 9), (20, 14)]}
    task = make_attack("peer-graph", parameters=parameters, select={"images": 6}, space="pixels", keep_images=True)
    attack(task, 0, tiny_data, *files, folder / "graph.parquet", device_name="cpu")
    return folder / "graph.parquet"


@pytest.fixture
def entry(inspected):
    def make(plot, missing=None, **parameters):
        inputs = [
            {
                "model": need.model,
                "attack": need.attack,
                "missing": None if need.model == "a" else "CIFAR-100 is not here",
                "files": [str(inspected)],
            }
            for need in needs_of(plot, parameters)
        ]
        labels = {"a": {"name": "PR-LeNet-5"}, "gone": {"name": "PR-ResNet-110"}}
        return artifact_entry(plot, parameters, labels, inputs=inputs)

    return make


FIGURES = {
    "peer-graph": {"attack": "graph", "model": "a", "neighbours": 2},
    "franken-images": {"attack": "graph", "models": ["a", "gone"], "images": 4},
}


def test_the_inspection_comes_back_from_its_file(inspected):
    rows, shared = read_rows(inspected), read_shared(inspected)
    assert len(rows) == 6 and rows["index"].tolist() == list(range(6)) and set(rows["layer"]) == {"conv2"}
    assert np.stack(rows["attention"]).shape == (6, 2 * 3) and np.stack(rows["peer_features"]).shape == (6, 2 * 3 * 10)
    assert shared["peers"].shape == (4, 1, 28, 28) and shared["cell"].tolist() == [2, 2]
    assert shared["peers"].min() >= 0 and shared["peers"].max() <= 1


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_have_the_same_bytes_twice(plot, entry, tmp_path):
    given, found = entry(plot, **FIGURES[plot]), []
    for number in range(2):
        made = drawing.draw(given)
        for kind in ("svg", "png"):
            (tmp_path / f"{number}.{kind}").write_bytes(style.picture(made, kind))
        (tmp_path / f"{number}.csv").write_text(drawing.data(made))
        found.append([(tmp_path / f"{number}.{kind}").read_bytes() for kind in ("svg", "png", "csv")])
    assert found[0] == found[1] and "NOT comparable" in found[0][0].decode()


def test_the_graph_figure_tells_every_link_it_shows(entry, inspected):
    given = entry("peer-graph", **FIGURES["peer-graph"], image=2)
    data, row = drawing.draw(given).data, read_rows(inspected).iloc[2]
    assert data["rank"].tolist() == [0, 1, 2] * 2 and data["pixel"].tolist() == [0] * 3 + [1] * 3
    assert set(data["index"]) == {2} and set(data["class"]) == {f"digit {row['label']}"} and set(data["draw"]) == {1}
    assert data["row"].tolist() == [8.5] * 3 + [20.5] * 3 and data["column"].tolist() == [8.5] * 3 + [14.5] * 3
    own, links = data[data["rank"] == 0], data[data["rank"] > 0]
    assert own["attention"].isna().all() and own["peer"].isna().all()
    assert links["attention"].tolist() == pytest.approx([row["attention"][place] for place in (0, 1, 3, 4)])
    assert links["similarity"].tolist() == pytest.approx([row["similarity"][place] for place in (0, 1, 3, 4)])
    assert links["peer"].tolist() == [row["peers"][place] for place in (0, 1, 3, 4)]
    places = row["peer_places"].reshape(6, 2)[[0, 1, 3, 4]]
    assert links[["peer_row", "peer_column"]].to_numpy().tolist() == places.tolist()
    names = [f"feature_{channel}" for channel in range(10)]
    assert np.allclose(own[names], row["features"].reshape(2, 10))
    assert np.allclose(links[names], row["peer_features"].reshape(6, 10)[[0, 1, 3, 4]])


def test_a_window_cuts_patches_out_of_the_peers(entry):
    figure = drawing.draw(entry("peer-graph", **FIGURES["peer-graph"], window=3)).figure
    limits = [axis.get_xlim() for axis in figure.axes if axis.images]
    assert limits[0] == (-0.5, 27.5) and all(high - low == 7 for low, high in limits[1:])


def test_cells_hold_the_nearest_pixels():
    assert [span(2.0 * row, 2.0) for row in range(3)] == [(0, 1), (2, 3), (4, 5)]
    assert [span(6.5 + 2 * row, 2.0) for row in range(3)] == [(6, 7), (8, 9), (10, 11)]
    assert [span(2.0 + row, 1.0) for row in range(3)] == [(2, 2), (3, 3), (4, 4)]
    centres = 4.0 * torch.arange(8)
    cells = [peer_graph.nearest_centre(torch.arange(32), centres).eq(row).nonzero()[:, 0] for row in range(1, 7)]
    assert [span(4.0 * row, 4.0) for row in range(1, 7)] == [(int(own[0]), int(own[-1])) for own in cells]


def test_the_franken_figure_sets_images_over_franken_images(entry, inspected):
    made, rows = drawing.draw(entry("franken-images", **FIGURES["franken-images"])), read_rows(inspected)
    data = made.data[made.data["model"] == "a"]
    assert data["index"].tolist() == [0, 1, 2, 3] and data["name"].tolist() == ["PR-LeNet-5"] * 4
    for row in range(4):
        clean, franken = (np.asarray(rows[name][row], dtype=float) for name in ("clean_picture", "franken"))
        assert data["difference"].iloc[row] == pytest.approx(np.sqrt(((clean - franken) ** 2).mean()))
        assert data["predicted"].iloc[row] == f"digit {rows['franken_label'][row]}"
    shows = [axis.images[0].get_array() for axis in made.figure.axes if axis.images]
    pictures = [
        np.asarray(rows[name][row]).reshape(28, 28) for name in ("clean_picture", "franken") for row in range(4)
    ]
    assert len(shows) == 8 and all(np.allclose(one, other) for one, other in zip(shows, pictures, strict=True))
    assert made.data[made.data["model"] == "gone"]["reason"].tolist() == ["CIFAR-100 is not here"]


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_of_nothing_say_why(plot, entry, tmp_path):
    parameters = FIGURES[plot] | ({"model": "gone"} if plot == "peer-graph" else {"models": ["gone"]})
    made = drawing.draw(entry(plot, **parameters))
    (tmp_path / "f.svg").write_bytes(style.picture(made, "svg"))
    assert made.data["reason"].tolist() == ["CIFAR-100 is not here"] and "not run" in (tmp_path / "f.svg").read_text()


def test_figures_refuse_what_they_cannot_show(entry):
    with pytest.raises(RedoubtError, match="image: 6 is not one of the 6 inspected images"):
        drawing.draw(entry("peer-graph", **FIGURES["peer-graph"], image=6))


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_ask_for_pictures(plot, entry, inspected, tmp_path):
    import pyarrow.parquet as pq

    file = tmp_path / "seed-0" / "graph.parquet"
    file.parent.mkdir()
    table = pq.read_table(inspected).drop_columns(["clean"])
    write_rows(table.to_pandas(), file, table.schema.metadata)
    given = entry(plot, **FIGURES[plot])
    given["inputs"][0]["files"] = [str(file)]
    with pytest.raises(RedoubtError, match=r"attack: graph has no .* keep_images"):
        drawing.draw(given)


# -- docs -------------------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_runs():
    page = (ROOT / "docs/peer-regularization.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    torch.manual_seed(0)
    names: dict = {}
    exec(code, names)
    chances = names["chances"]
    assert torch.allclose(chances.sum(1), torch.ones(len(chances)), atol=1e-5)


def test_the_page_shows_its_drawing_and_is_found():
    page = (ROOT / "docs/peer-regularization.md").read_text()
    for file in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / "docs" / file).is_file(), file
    assert "(peer-regularization.svg)" in page
    assert "docs/peer-regularization.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("attention", "bias", "passes"), [("gat", 9, False), ("gat", -9, False), ("gat", 0, True), ("printed", 0, False)]
)
def test_gradients_pass_where_scores_have_both_signs_as_the_page_says(attention, bias, passes):
    model = peered(plain((3, 4, 4)), ["conv"], (3, 4, 4), 6, neighbours=5, attention=attention)
    score = model.layers["conv"].score
    with torch.no_grad():
        score.weight.copy_(torch.tensor([[1.0, -2.0, 1.0, 4.0, -4.0, 0.0]]))
        score.bias.fill_(bias)
    images = drawn((3, 4, 4), 3, seed=8).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    assert (gradient.abs().max() > 1e-3) == passes and (gradient.abs().max() < 1e-6) == (not passes)
