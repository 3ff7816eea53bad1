"""Checkpoints, rows and states that are harmed: refused in one line, nothing in them executed, nothing made of them."""

import hashlib
import json
import pickle
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows
from redoubt.rows import read_rows
from redoubt.steps import attack, table, train
from redoubt.tools import perturbation

REFUSED = "one line that names the file and the remedy, nothing written"
FLIPS = 20


@pytest.fixture(scope="module")
def made(tiny_data, tmp_path_factory, make_entry, make_attack, prepare_once):
    """Two models of one shape, and rows of an attack on the first."""
    folder = tmp_path_factory.mktemp("made")
    common = ["--data", str(tiny_data), "--device", "cpu", "--preprocessing", str(prepare_once(make_entry()))]
    for name, seed in (("one", "0"), ("other", "1")):
        entry = json.dumps(make_entry(epochs=1) | {"id": f"tiny-{name}"})
        settings = ["--seed", seed, "--folder", str(folder / name), "--resume", str(folder / "resume")]
        train.main(["--entry", entry, *settings, *common])
    weights = ["--weights", str(folder / "one/weights.safetensors")]
    rows = json.dumps(make_attack(select={"images": 20}, parameters={"iterations": 3}))
    attack.main(["--entry", rows, *weights, "--out", str(folder / "rows.parquet"), *common])
    return folder


class Payload:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.mkdir, (self.place,)


def stored(path, change):
    """Store weights that somebody has changed, and have their model.json vouch for them."""
    state = safetensors.torch.load_file(path)
    change(state)
    content = safetensors.torch.save(state)
    path.write_bytes(content)
    facts = json.loads(path.with_name("model.json").read_text())
    path.with_name("model.json").write_text(json.dumps(facts | {"sha256": hashlib.sha256(content).hexdigest()}))


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_model(path):
    shutil.copyfile(path.parent.parent / "other/weights.safetensors", path)


def pickled(path):
    path.write_bytes(pickle.dumps(Payload(path.parent / "pwned")))


def torch_pickled(path):
    torch.save(Payload(path.parent / "pwned"), path)


def unvouched_pickle(path):
    pickled(path)
    path.with_name("model.json").unlink()


def not_a_number(path):
    stored(path, lambda state: state["fc1.bias"].fill_(float("nan")))


def wrong_shape(path):
    stored(path, lambda state: state.update({"fc1.bias": torch.zeros(7)}))


def missing_tensor(path):
    stored(path, lambda state: state.pop("fc1.bias"))


def html(path):
    path.write_bytes(b"<!DOCTYPE html><html>please log in</html>")


def other_json(path):
    path.with_name("model.json").write_text('{"entry": {}}')


HARMS = {
    "cut in half": cut,
    "wrong shape": wrong_shape,
    "a tensor missing": missing_tensor,
    "NaN": not_a_number,
    "another model's weights": other_model,
    "a pickle renamed to .safetensors": pickled,
    "a torch.save file renamed to .safetensors": torch_pickled,
    "a web page": html,
    "empty": lambda path: path.write_bytes(b""),
    "model.json of something else": other_json,
}
BITS = [random.Random(number).randrange(2**40) for number in range(FLIPS)]
CASES = [pytest.param(harm, id=name, marks=pytest.mark.fault(f"checkpoint: {name}", "attack, defend", REFUSED))
         for name, harm in HARMS.items()]  # fmt: skip
CASES += [
    pytest.param(
        lambda path, bit=bit: flip(path, bit),
        id=f"bit-{bit}",
        marks=pytest.mark.fault("checkpoint: a flipped bit", "attack, defend", REFUSED),
    )
    for bit in BITS
]


@pytest.fixture
def harmed(made, tmp_path):
    """A copy of the two models and the rows."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.mark.parametrize("harm", CASES)
def test_a_harmed_checkpoint_is_refused(harm, harmed, tiny_data, make_entry, make_attack, prepared, failure, tmp_path):
    weights = harmed / "one/weights.safetensors"
    harm(weights)
    common = ["--data", str(tiny_data), "--device", "cpu", "--preprocessing", str(prepared(make_entry()))]
    rows = ["--entry", json.dumps(make_attack()), "--weights", str(weights), "--out", str(tmp_path / "rows.parquet")]
    tuned = ["--entry", json.dumps(make_entry(start="tiny-one", epochs=1)), "--start", str(weights)]
    tuned += ["--folder", str(tmp_path / "tuned"), "--resume", str(tmp_path / "resume")]
    for main, arguments in ((attack.main, rows), (train.main, tuned)):
        line = failure(main, [*arguments, *common])
        assert str(weights.parent) in line and ("run" in line.split(str(weights.parent))[1]), line
    assert not list(harmed.rglob("pwned"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


@pytest.mark.fault("checkpoint: a pickle without model.json", "attack, defend", REFUSED)
def test_a_pickle_that_nothing_vouches_for_is_refused(
    harmed, tiny_data, make_entry, make_attack, prepared, failure, tmp_path
):
    made = (tiny_data, make_entry, make_attack, prepared, failure, tmp_path)
    test_a_harmed_checkpoint_is_refused(unvouched_pickle, harmed, *made)


@pytest.fixture
def reading_steps(harmed, tiny_data, make_entry, make_attack, prepared, tmp_path):
    """Command lines of the steps that read rows: their main functions and arguments."""
    rows, published = harmed / "rows.parquet", tmp_path / "published.csv"
    published.write_text("artifact,row,column,value,unit,note\n")
    need = {"model": "tiny-one", "attack": "deepfool-test", "missing": None, "files": [str(rows)]}
    cell = {"label": "Acc.", "metric": "accuracy", "attack": "deepfool-test"}
    entry = {"kind": "table", "plot": "metric-table", "title": "T", "caption": "C", "study": "s", "id": "table-1"}
    entry |= {"scale": "demo", "published": str(published), "stamp": "", "comparable": False}
    entry |= {"verdict": {"rate": 0.01, "mean": 0.1}, "inputs": [{**need, "files": [_seeded(rows)]}]}
    entry |= {"models": {"tiny-one": {"labels": {}, "dataset": "digits", "start": None}}}
    entry |= {"parameters": {"models": ["tiny-one"], "columns": [cell]}}
    out = tmp_path / "out"
    drawn = ["--entry", json.dumps(entry), "--data", str(out / "t.csv"), "--text", str(out / "t.md")]
    task = make_attack("fgs", parameters={"fractions": [1.0]})
    crafted = [
        "--entry",
        json.dumps(task),
        "--data",
        str(tiny_data),
        "--device",
        "cpu",
        "--out",
        str(out / "r.parquet"),
    ]
    crafted += ["--weights", str(harmed / "one/weights.safetensors"), "--preprocessing", str(prepared(make_entry()))]
    crafted += ["--reads", str(rows)]
    exported = ["--rows", str(rows), "--folder", str(out)]
    return [(table.main, drawn), (attack.main, crafted), (perturbation.main, exported)], out


def _seeded(rows):
    """Return a link to rows whose path names a seed, as the paths of results do."""
    folder = rows.parent / "seed-0"
    folder.mkdir()
    (folder / rows.name).symlink_to(rows)
    return str(folder / rows.name)


@pytest.mark.fault("rows: cut in half", "table, attack, perturbation", REFUSED)
def test_rows_cut_in_half_are_refused(harmed, reading_steps, failure):
    cut(harmed / "rows.parquet")
    steps, out = reading_steps
    for main, arguments in steps:
        line = failure(main, arguments)
        assert "rows.parquet: no " in line, line
        assert not out.exists() or not list(out.iterdir())


@pytest.mark.fault("rows: a flipped bit", "table, attack", "one line, or the very rows that were written", trials=200)
def test_every_flipped_bit_of_rows_is_noticed(harmed):
    path = harmed / "rows.parquet"
    whole, content = read_rows(path), path.read_bytes()
    draw, refused = random.Random(0), 0
    for _ in range(200):
        flip(path, draw.randrange(8 * len(content)))
        try:
            found = read_rows(path)
            assert found.equals(whole) and found.attrs == whole.attrs
        except RedoubtError as error:
            refused += 1
            assert str(path) in str(error) and "run the attack again" in str(error)
        path.write_bytes(content)
    assert refused > 100  # the others change nothing that is read


@pytest.mark.fault("rows: of an older format", "table, attack", REFUSED)
def test_rows_without_a_seal_are_refused(harmed):
    path = harmed / "rows.parquet"
    found = pq.read_table(path)
    write_rows(found.to_pandas(), path, {b"model": b"m", b"shape": b"[1, 2, 2]"})
    assert len(read_rows(path)) == 20
    pq.write_table(found.replace_schema_metadata({b"model": b"m", b"shape": b"[1, 2, 2]"}), path)
    with pytest.raises(RedoubtError, match=r"rows\.parquet: no readable rows .*; delete it and run the attack again"):
        read_rows(path)
