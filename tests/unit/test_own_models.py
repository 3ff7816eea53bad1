"""A model of the user's: its file, its weights, what they decide, and what is refused in one line."""

import hashlib
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from redoubt.errors import RedoubtError
from redoubt.graph.jobs import Jobs
from redoubt.models import given
from redoubt.models.classifier import build
from redoubt.networks import own
from redoubt.study import catalog

ROOT = Path(__file__).resolve().parents[2]
NET = '''\
"""A network."""

import torch
from parts import halved


class Net(torch.nn.Module):
    """One layer behind a halved image."""

    def __init__(self, classes=10, tall=False):
        super().__init__()
        self.head = torch.nn.Linear(784, classes)
        self.tall = tall

    def forward(self, images):
        logits = self.head(halved(images).flatten(1))
        return (logits,) if self.tall else logits


def number():
    return 3
'''
PARTS = "def halved(images):\n    return images / 2\n"
MODELS = """\
baselines:
  digits-mine:
    dataset: digits
    module: ../../../nets/net.py:Net
    weights: ../../../nets/net.pt
    labels: {dataset: digits, network: mine, method: none}
models:
  digits-mine-tuned:
    like: digits-mine
    defense: pgd-training
    parameters: {epsilon: 0.1, steps: 1, step_size: 0.1}
    training: {epochs: 1, batch_size: 50, learning_rate: 0.01}
"""
ATTACKS = """\
attacks: {own-fgs: {attack: fgs, parameters: {epsilons: [0.1]}, select: {images: 20}}}
evaluations: [{attack: own-fgs, models: [digits-mine]}]
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A config with one study, whose model is the user's: a network and its weights in another folder."""
    monkeypatch.chdir(tmp_path)
    files = {
        "config/config.yaml": "studies: [mine]\n",
        "config/studies/mine/study.yaml": "{title: Mine, reference: nobody}\n",
        "config/studies/mine/models.yaml": MODELS,
        "config/studies/mine/attacks.yaml": ATTACKS,
        "config/published/mine.csv": "artifact,row,column,value,unit,note\n",
        "nets/net.py": NET,
        "nets/parts.py": PARTS,
        "nets/other.py": "X = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copytree(ROOT / "config/scales", tmp_path / "config/scales")
    state = {"head.weight": torch.ones(10, 784), "head.bias": torch.arange(10.0)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nets/net.pt")
    return tmp_path


def versions(tree):
    """Return what decides each job, by its name."""
    return {job.name: (job.version, repr(job.entry)) for job in Jobs(catalog.load(tree)) if job.model}


def edited(tree, file, old, new):
    """Return the jobs that an edit of a file makes run again."""
    before = versions(tree)
    path = tree / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    after = versions(tree)
    return {name for name in after if after[name] != before[name]}


def test_the_entry_names_a_module_and_the_digest_of_the_weights(tree):
    found = catalog.load(tree).models
    entry = found["digits-mine"].entry
    assert entry.network.parameters == {"module": "redoubt_own.mine.net:Net"}
    assert entry.weights == hashlib.sha256((tree / "nets/net.pt").read_bytes()).hexdigest()
    assert found["digits-mine"].weights == str((tree / "nets/net.pt").resolve())
    assert entry.training.epochs == 0 and found["digits-mine-tuned"].entry.training.epochs == 1
    assert str(tree) not in repr(entry.dump())


def test_an_edit_of_its_files_reruns_what_it_must_by_meaning(tree):
    jobs = {name for name in versions(tree) if "mine" in name}
    assert len(jobs) == 3
    assert edited(tree, "nets/net.py", '"""A network."""', '"""Some network."""\n\n# a comment') == set()
    assert edited(tree, "nets/other.py", "X = 1", "X = 2") == set(), "it is not imported"
    assert edited(tree, "nets/parts.py", "/ 2", "/ 3") == jobs
    assert edited(tree, "nets/net.py", "(1)", "(1).relu()") == jobs


def test_other_weights_are_another_model(tree):
    before = versions(tree)
    torch.save({"head.weight": torch.zeros(10, 784), "head.bias": torch.zeros(10)}, tree / "nets/net.pt")
    after = versions(tree)
    assert {name for name in after if after[name] != before[name]} == {
        "pretrain/digits-mine/seed-0",
        "defend/digits-mine-tuned/seed-0",
    }


def test_it_is_built_with_what_lies_beside_it_and_filled(tree):
    found = catalog.load(tree).models["digits-mine"]
    model = build(found.entry, (1, 28, 28), 10)
    state = given.read(Path(found.weights), found.entry.weights)
    given.fill(model.network, state, Path(found.weights))
    images = torch.full((2, 1, 28, 28), 0.5)
    assert model(images)[0].tolist() == [784 * 0.25 + number for number in range(10)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("net.py:Net", "none.py:Net", "models.yaml: baselines.digits-mine.module: ../../../nets/none.py: no such file"),
        ("net.py:Net", "net.py:Nets", "digits-mine.module: ../../../nets/net.py has no Nets; it has Net, "),
        ("../../../nets/net.py:Net", "no.such.module:Net", "module: 'no.such.module' is not an importable module"),
        ("../../../nets/net.py:Net", "net.py", "digits-mine.module: "),
        ("nets/net.pt", "nets/no.pt", "digits-mine.weights: ../../../nets/no.pt: no such file"),
        ("nets/net.pt", "nets/net.bin", "its name ends with one of .safetensors, .pt, .pth"),
        ("    module: ", "    network: mlp\n    module: ", "module and network are given; give one"),
        ("    weights: ../../../nets/net.pt\n", "", "training: this key is required, unless there are weights"),
        ("    module: ../../../nets/net.py:Net\n", "", "network: this key is required, or module"),
    ],
)
def test_mistakes_in_the_config_are_one_line(tree, old, new, message):
    path = tree / "config/studies/mine/models.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RedoubtError) as caught:
        catalog.load(tree)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_python_is_reported_with_its_line(tree):
    (tree / "nets/net.py").write_text("import torch\n\nclass Net(\n")
    with pytest.raises(RedoubtError, match=r"nets/net\.py: line 3: "):
        catalog.load(tree)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of an importable module with the network."""
    (tmp_path / "own_net_of_a_test.py").write_text(NET.replace("from parts import halved\n", PARTS))
    monkeypatch.syspath_prepend(tmp_path)
    return "own_net_of_a_test"


@pytest.mark.parametrize(
    ("name", "arguments", "classes", "message"),
    [
        ("Net", {"classes": 7}, 10, r"makes \(2, 7\) of images \(2, 1, 28, 28\); logits \(2, 10\) are expected"),
        ("Net", {"tall": True}, 10, r"makes tuple of images"),
        ("Net", {"wide": 1}, 10, "cannot be made: TypeError"),
        ("number", {}, 10, "it makes a int; a torch.nn.Module is expected"),
    ],
)
def test_a_network_that_is_none_is_refused(module, name, arguments, classes, message):
    with pytest.raises(RedoubtError, match=f"^{module}:{name}: .*{message}"):
        own.build(own.Parameters(module=f"{module}:{name}", arguments=arguments), (1, 28, 28), classes)


def test_a_network_that_fails_on_images_is_refused(module):
    with pytest.raises(RedoubtError, match=r"it fails on images \(2, 3, 5, 5\): RuntimeError"):
        own.build(own.Parameters(module=f"{module}:Net"), (3, 5, 5), 10)


def saved(path, value):
    """Write a file of weights and return it with its digest."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(value, path)
    elif isinstance(value, bytes):
        path.write_bytes(value)
    else:
        torch.save(value, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


STATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.safetensors", STATE),
        ("a.pt", STATE),
        ("a.pth", {"model_state_dict": STATE, "epoch": 1}),
        ("a.pt", {f"module.{name}": tensor for name, tensor in STATE.items()}),
    ],
)
def test_weights_in_the_ways_in_which_they_are_saved(tmp_path, name, value):
    network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    path, digest = saved(tmp_path / name, value)
    given.fill(network, given.read(path, digest), path)
    assert all(torch.equal(tensor, STATE[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.pt", torch.nn.Linear(3, 2), r"it holds more than tensors; save `model.state_dict\(\)`"),
        ("a.pt", b"junk", "it holds more than tensors|no readable weights"),
        ("a.pt", {"0.weight": 3}, "'0.weight' is no tensor; a state_dict is expected"),
        ("a.pt", [1], "a state_dict is expected, a mapping"),
        ("a.pt", STATE | {"0.bias": torch.tensor([0.0, float("nan")])}, "tensor 0.bias is not finite"),
        ("a.pt", {"0.weight": torch.ones(2, 3)}, r"do not fit the network: they lack 0\.bias$"),
        ("a.pt", STATE | {"1.bias": torch.ones(1)}, r"the network does not have 1\.bias$"),
        ("a.pt", STATE | {"0.bias": torch.ones(4)}, r"of another shape 0\.bias \[4\], not \[2\]$"),
    ],
)
def test_other_weights_are_refused_in_one_line(tmp_path, name, value, message):
    path, digest = saved(tmp_path / name, value)
    with pytest.raises(RedoubtError, match=message) as caught:
        given.fill(torch.nn.Sequential(torch.nn.Linear(3, 2)), given.read(path, digest), path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_weights_that_changed_since_the_run_began_are_refused(tmp_path):
    path, digest = saved(tmp_path / "a.pt", STATE)
    saved(path, {"0.weight": torch.zeros(2, 3)})
    with pytest.raises(RedoubtError, match="it has changed since this run began"):
        given.read(path, digest)
