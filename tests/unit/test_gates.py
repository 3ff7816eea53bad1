"""Gates: nothing red for plainly and adversarially trained networks, and red where a defense misleads attacks."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from artifact_entries import artifact_entry

from redoubt.artifacts._drawing import draw
from redoubt.attacks.interface import Batches, Context
from redoubt.evaluation.craft import craft
from redoubt.evaluation.evaluate import evaluate
from redoubt.evaluation.surrogate import Scaled
from redoubt.judging import gates
from redoubt.probes import gates as probe
from redoubt.report import gates as report
from redoubt.rows import write_rows
from redoubt.study.entries.adaptive import BATTERY, WRAPPERS
from tests.conftest import trained
from tests.planted import CASES, PGD, accuracy

EPSILON = 0.05


def rows_of(network, images, labels, **options):
    """The probe's rows, as the attack step writes them."""
    parameters = probe.Parameters(**{"epsilon": EPSILON, "steps": 10, "queries": 300, "draws": 5, **options})
    context = Context(torch.Generator().manual_seed(0), (0.0, 1.0))
    frames = []
    for part in probe.run(network, Batches(images, labels, 60), parameters, context):
        facts = {name: value.numpy() for name, value in part.facts.items()}
        with torch.no_grad():
            facts["clean_label"] = network(part.inputs).argmax(1).numpy()
        frames.append(pd.DataFrame({"index": range(part.start, part.start + len(part.inputs)), **facts}))
    return pd.concat(frames, ignore_index=True).assign(seed=0, label=labels.numpy())


def judged(rows):
    return {name: gate.gate for name, gate in gates.judged(rows).items()}


def red(rows):
    return {name for name, gate in judged(rows).items() if gate == "red"}


@pytest.fixture(scope="module")
def hardened(digit_arrays):
    """An MLP trained on PGD examples of the digits, in the ball in which it is attacked, to the end of its rate."""
    model = trained("mlp", 0.2, digit_arrays, 120)
    images, labels = (torch.from_numpy(part) for part in digit_arrays["train"])
    images = images.float() / 255
    optimizer = torch.optim.AdamW(model.parameters(), 0.002, weight_decay=2.0)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 400)
    for step in range(400):
        draw = torch.Generator().manual_seed(step)
        own = torch.randperm(len(labels), generator=draw)[:100]
        clean = images[own]
        point = (clean + EPSILON * (2 * torch.rand(clean.shape, generator=draw) - 1)).clamp(0, 1)
        for _ in range(5):
            point.requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(point), labels[own])
            moved = point.detach() + 0.35 * EPSILON * torch.autograd.grad(loss, point)[0].sign()
            point = torch.minimum(torch.maximum(moved, clean - EPSILON), clean + EPSILON).clamp(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(point), labels[own]).backward()
        optimizer.step()
        rate.step()
    return model.eval()


def test_adversarial_training_raises_no_alarm(hardened, digit_images):
    rows = rows_of(hardened, *(part[:250] for part in digit_images))
    robust = 1 - rows["wrong_restarts"].mean()
    assert robust > 0.5 and (rows["clean_label"] == rows["label"]).mean() > 0.9
    assert judged(rows) == dict.fromkeys(gates.CHECKS, "green") | dict.fromkeys(NOT_RUN, "not-run")


def right(rows):
    """Which images, by their places, an attack leaves right."""
    return rows.sort_values("index").eval("adversarial_label == label").to_numpy()


def test_adversarial_training_keeps_its_accuracy_under_the_whole_suite(hardened, digit_images):
    images, labels = (part[:200] for part in digit_images)
    longer = {"restarts": 3, "steps": 100, "relative_step_size": 0.02}
    naive = accuracy("pgd", hardened, images, labels, **PGD | longer | {"epsilons": [EPSILON]})
    found = evaluate(hardened, images, labels, epsilon=EPSILON, queries=400)
    withstood = [right(found.worst)]
    ball = {"epsilons": [EPSILON], **BATTERY["apgd"], "steps": 40}
    del ball["attack"]
    for name, network in {"log-odds": hardened, "margin": hardened, "scaled-logits": Scaled(hardened, 0.001)}.items():
        keys = {**ball, **WRAPPERS[name].keys.get("parameters", {})}
        withstood.append(right(craft("apgd", network, images, labels, **keys).rows))
    left = np.all(withstood, axis=0).mean()
    assert naive > 0.8 and round(abs(left - naive) * len(labels)) <= len(labels) // 100, (naive, left)
    assert found.passed, str(found)


def test_a_plain_network_raises_none_either(mlp, digit_images):
    assert not red(rows_of(mlp, *(part[:100] for part in digit_images)))


OTHERS = ("transfer finds no more", "other attacks find no more", "clean accuracy is by the same rule")
NOT_RUN = ("draws are enough", *OTHERS)
STRONGER = "the white box finds no less than the black box"
SLOPES = "differences agree with gradients"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zero gradient", {STRONGER, SLOPES, "gradients are not zero", "without a bound all images are fooled"}),
        ("rounding", {STRONGER, SLOPES, "gradients are not zero", "noise of that size finds no more"}),
        ("slanted by peers", {STRONGER, SLOPES}),
        ("decoy draws", {"several steps find no less than one"}),
    ],
)
def test_planted_defenses_are_red(name, expected, mlp, digit_images):
    torch.manual_seed(0)
    images, labels = (part[:80] for part in digit_images)
    assert expected <= red(rows_of(CASES[name].plant(mlp), images, labels, epsilon=0.2))


def test_a_random_model_is_asked_with_more_draws(mlp, digit_images):
    torch.manual_seed(0)
    images, labels = (part[:40] for part in digit_images)
    rows = rows_of(CASES["noise with a switch"].plant(mlp), images, labels, epsilon=0.2, steps=5, draws=4, queries=1)
    assert rows["wrong_draws"].mean() > rows["wrong_few"].mean()


def counts(both, first, second, neither):
    """Two attacks that fool so many images together, alone, and not at all."""
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    return one, np.repeat([True, False, True, False], [both, first, second, neither])


@pytest.mark.parametrize(
    ("lost", "found", "gate"), [(9, 0, "green"), (10, 0, "red"), (40, 30, "green"), (40, 9, "red")]
)
def test_a_stronger_attack_may_lose_as_many_as_chance_does(lost, found, gate):
    result = gates.at_least(*counts(20, found, lost, 30))
    n = 50 + lost + found
    assert result.gate == gate and result.n == n
    assert result.value == pytest.approx((found - lost) / n) and result.ci_low < result.value < result.ci_high
    assert result.p == pytest.approx(sum(_choose(lost + found, k) for k in range(lost, lost + found + 1)), rel=1e-9)


def _choose(n, k):
    return math.comb(n, k) / 2**n


@pytest.mark.parametrize(("gain", "gate"), [(0, "green"), (5, "green"), (6, "red")])
def test_a_gain_of_a_point_is_allowed(gain, gate):
    assert gates.gains_little(*counts(30, gain + 2, 2, 66 - gain)).gate == gate


@pytest.mark.parametrize(("count", "gate"), [(100, "green"), (95, "green"), (94, "red")])
def test_a_share_reaches_a_level(count, gate):
    found = gates.reaches(np.arange(100) < count, 0.99)
    assert (found.gate, found.value, found.allowed) == (gate, count / 100, 0.99)
    assert gates.reaches(np.zeros(0, dtype=bool), 0.99).gate == "not-run"


def table(**columns):
    frame = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    return frame.assign(seed=0, index=range(len(frame)), label=1)


@pytest.mark.parametrize(
    ("few", "half", "double", "gate"), [(20, 10, 30, "green"), (20, 31, 40, "red"), (31, 20, 20, "red")]
)
def test_larger_balls_hold_no_less(few, half, double, gate):
    rows = table(
        **{f"wrong_{name}": np.arange(50) < count for name, count in [("few", few), ("half", half), ("double", double)]}
    )
    assert gates.CHECKS["larger balls hold no less"].judge(rows, ()).gate == gate


def test_only_images_that_are_right_have_gradients_that_count():
    wrong = np.arange(40) < 20
    rows = table(clean_label=1 - wrong, gradient=np.where(wrong, 0.0, 1.0), difference=np.where(wrong, 9.0, 1.6))
    assert gates.CHECKS["gradients are not zero"].judge(rows, ()).value == 1.0
    assert gates.CHECKS[SLOPES].judge(rows, ()) == gates.reaches(np.ones(20, dtype=bool), 0.9)
    assert gates.CHECKS[SLOPES].judge(rows.assign(difference=2.1), ()).value == 0.0


def beside(rows, others):
    return [gates.CHECKS[name].judge(rows, others) for name in OTHERS]


def test_other_attacks_are_compared_on_the_images_that_both_have():
    rows = table(clean_label=np.ones(30), adversarial_label=np.ones(30), wrong_restarts=np.arange(30) < 2)
    other = pd.DataFrame({"seed": 0, "index": range(10, 50), "clean_label": 1, "adversarial_label": 1})
    transfer, others, same = beside(rows, [other])
    assert (transfer.gate, others.gate, others.n, same.gate) == ("not-run", "green", 20, "green")
    fooled = other.assign(adversarial_label=np.where(other["index"] < 20, 0, 1), clean_label=0)
    again = pd.concat([fooled.assign(repetition=0), other.assign(repetition=1)])
    _, others, same = beside(rows, [other, again])
    assert (others.gate, others.value, same.gate, same.value) == ("red", -0.5, "red", 1.0)
    assert {gate.gate for gate in beside(rows, [])} == {"not-run"}


def test_examples_of_another_model_have_a_check_to_themselves():
    rows = table(clean_label=np.ones(30), adversarial_label=np.ones(30), wrong_restarts=np.zeros(30))
    other = rows.assign(adversarial_label=0)
    other.attrs["crafted_on"] = "undefended"
    transfer, others, same = beside(rows, [other])
    assert (transfer.gate, transfer.value, others.gate, same.gate) == ("red", -1.0, "not-run", "green")
    stronger = rows.assign(wrong_white=True)
    assert beside(stronger, [other])[0].gate == "green", "stronger white boxes than the probe's count"


@pytest.mark.parametrize(("right", "gate"), [(40, "green"), (19, "green"), (12, "red"), (0, "red")])
def test_a_model_that_guesses_knows_nothing(right, gate):
    rows = table(clean_label=np.ones(40)).assign(label=np.r_[np.arange(40) % 4])
    rows["clean_label"] = np.where(np.arange(40) < right, rows["label"], 9)
    found = gates.CHECKS["images are known before any attack"].judge(rows, ())
    assert (found.gate, found.value, found.allowed) == (gate, right / 40, 0.25)


def test_gradients_beside_the_point_are_red():
    rows = table(moved=np.zeros(20))
    check = gates.CHECKS["gradients are finite"]
    assert check.judge(rows, ()).gate == "green"
    found = check.judge(rows.assign(moved=0.25), ())
    assert (found.gate, found.value, found.allowed) == ("red", 0.25, 0.0)
    assert gates.line("gradients are finite", found).startswith("red      gradients are finite: 25.0 % (")
    assert gates.line("gradients are finite", found).endswith("allowed 0 %, 20 images; " + check.meaning)


# -- the table and the report -----------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path):
    """A table of gates of a model with rows and of one that is missing, beside another attack."""
    rows = table(clean_label=np.ones(40), adversarial_label=np.ones(40), gradient=np.ones(40), difference=np.ones(40))
    rows["moved"] = 0.0
    for name in ("few", "many", "restarts", "half", "double", "unbounded", "single", "black", "noise"):
        rows[f"wrong_{name}"] = name in ("unbounded", "black")
    other = rows[["index", "label", "clean_label", "adversarial_label"]]
    parts = [other.assign(epsilon=0.1), other.assign(epsilon=0.2, adversarial_label=0)]
    facts = {"model": "a", "shape": "[1, 2, 2]"}
    files = {name: str(tmp_path / "a" / "seed-0" / f"{name}.parquet") for name in ("gates", "pgd")}
    write_rows(rows.drop(columns="seed"), Path(files["gates"]), facts)
    write_rows(pd.concat(parts), Path(files["pgd"]), facts)
    parameters = {
        "models": ["a", "gone"],
        "probe": "gates",
        "beside": [{"attack": "pgd", "models": ["a"], "where": {"epsilon": 0.1}}],
    }
    inputs = [{"model": "a", "attack": name, "missing": None, "files": [file]} for name, file in files.items()]
    inputs.append({"model": "gone", "attack": "gates", "missing": "not here", "files": []})
    models = {name: ({"network": "MLP", "method": name}, {}) for name in ("a", "gone")}
    return artifact_entry("gates", parameters, models, inputs=inputs, kind="table")


def test_the_table_has_a_row_for_every_model_and_check(entry):
    drawing = draw(entry)
    data = drawing.data.set_index(["model", "check"])
    assert len(data) == 2 * len(gates.CHECKS) and set(data.loc["gone", "gate"]) == {"not-run"}
    assert set(data.loc["gone", "reason"]) == {"not here"}
    expected = dict.fromkeys(gates.CHECKS, "green") | dict.fromkeys(NOT_RUN, "not-run")
    expected |= dict.fromkeys(OTHERS[1:], "green") | {STRONGER: "red"}
    assert data.loc["a", "gate"].to_dict() == expected
    assert (data.loc[("a", STRONGER), "value"], data.loc[("a", STRONGER), "n"]) == (-1.0, 40)
    assert f"| MLP, a | {STRONGER} | **red** | -100.0 % (-100.0 – -100.0) | 0 % | 40 |" in drawing.text
    assert f"| MLP, gone | {STRONGER} | not-run | not here |  |  |" in drawing.text


def test_red_gates_are_read_from_their_tables_alone(tmp_path):
    (tmp_path / "s").mkdir()
    for name in ("gates", "other"):
        (tmp_path / "s" / f"{name}.csv").write_text(
            "model,label,check,gate\nmlp,MLP,slopes,red\nmlp,MLP,steps,green\nnin,NiN,noise,red\n"
        )
    artifacts = [
        {"id": "gates", "plot": "gates"},
        {"id": "other", "plot": "checks"},
        {"id": "undrawn", "plot": "gates"},
    ]
    found = report.red({"studies": {"s": {"artifacts": artifacts}, "t": {"artifacts": []}}}, tmp_path)
    assert found == {"s": ["MLP: slopes", "NiN: noise"], "t": []}


def test_the_word_robust_is_quoted_wherever_it_stands():
    view = {"id": "robust", "title": "More robust, and Robustness", "parts": [{"text": "not robust"}], "n": 3}
    said = report.quoted(view | {"uri": "data:robust"})
    assert said == view | {
        "title": "More “robust”, and “Robustness”",
        "parts": [{"text": "not “robust”"}],
        "uri": "data:robust",
    }
    assert report.quoted(said) == said
