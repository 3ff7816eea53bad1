"""`redoubt.evaluate`: known answers, gates on defenses that are broken on purpose, memory."""

import pandas as pd
import pytest
import torch
from planted import Saturated, rounded, zero_gradient

import redoubt
from redoubt.errors import RedoubtError
from redoubt.evaluation import memory

EPSILON = 0.02
FAST = {"epsilon": EPSILON, "queries": 120}


def affine(classes, images=24):
    """Return an affine model, grey enough images, their labels, and which of them withstand any attack."""
    generator = torch.Generator().manual_seed(classes)
    layer = torch.nn.Linear(16, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 16, generator=generator))
        layer.bias.copy_(-0.5 * layer.weight.sum(1))  # no class leads on the grey image
    images = 0.3 + 0.4 * torch.rand(images, 1, 4, 4, generator=generator)
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    with torch.no_grad():
        logits = model(images)
        labels = logits.argmax(1)
        lead = logits.gather(1, labels[:, None]) - logits
        reach = (layer.weight[labels][:, None] - layer.weight[None]).abs().sum(2)
        safe = (lead - EPSILON * reach).scatter(1, labels[:, None], 1.0).amin(1) > 0
    labels[0] = (labels[0] + 1) % classes  # wrong from the start
    safe[0] = False
    return model, images, labels, safe


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_what_is_left_of_an_affine_model_is_known(classes):
    model, images, labels, safe = affine(classes)
    found = redoubt.evaluate(model, images, labels, **FAST)
    left = found.worst.sort_values("index")["adversarial_label"].to_numpy() == labels.numpy()
    assert (left == safe.numpy()).all() and 0 < safe.sum() < len(labels) - 1
    assert found.accuracy == pytest.approx(float(safe.float().mean()))
    assert list(found.table["attack"]) == ["clean", "apgd", "apgd-targeted", "square", "worst of all"]
    assert found.table["accuracy"][0] == pytest.approx((len(labels) - 1) / len(labels))
    assert (found.table["low"] <= found.table["accuracy"]).all() and (found.table["high"] < 1).any()
    assert (
        set(found.rows["attack"]) == {"apgd", "apgd-targeted", "square"} and found.rows["linf"].max() < EPSILON + 1e-6
    )
    assert found.rows["queries"].max() <= FAST["queries"]
    assert found.passed and not found.random and "green    without a bound all images are fooled: 100.0 %" in str(found)


def wrong_order(model):
    """Return a model with the logits of other classes."""
    return lambda images: model(images).flip(1)


def rooted(model):
    """Return a model with almost the same logits, whose gradient is not finite where two pixels are equal."""
    return lambda images: model(images) + 1e-6 * (images[:, :, 0, 0] - images[:, :, 0, 1]).square().sqrt()


FLAT, STRONGER = "gradients are not zero", "the white box finds no less than the black box"


@pytest.mark.parametrize(
    ("breaks", "failed"),
    [
        (zero_gradient, {FLAT, STRONGER}),
        (rounded, {FLAT, "without a bound all images are fooled"}),
        (Saturated, set()),  # the targeted attack sees through it
        (wrong_order, {"images are known before any attack"}),
        (rooted, {"gradients are finite"}),
    ],
)
def test_gates_find_what_hides_gradients(breaks, failed):
    model, images, labels, _ = affine(10, images=40)
    images[:, :, 0, 1] = images[:, :, 0, 0]
    labels = model(images).argmax(1)
    found = redoubt.evaluate(breaks(model), images, labels, **FAST)
    red = {name for name, gate in found.gates.items() if gate.gate == "red"}
    assert red >= failed and (not red or failed), red
    assert found.passed is (not failed)
    assert found.gates["transfer finds no more"].gate == "not-run"


def test_a_model_that_draws_is_averaged_and_scored_several_times():
    model, images, labels, _ = affine(10, images=8)

    def drawing(inputs):
        return model(inputs) + torch.randn(len(inputs), 10)

    found = [redoubt.evaluate(drawing, images, labels, **FAST, draws=3, scorings=4, seed=1) for _ in range(2)]
    assert found[0].random and set(found[0].rows["repetition"]) == {0, 1, 2, 3}
    assert found[0].rows.equals(found[1].rows), "draws follow from the seed"


def test_the_size_of_a_batch_and_the_generator_of_others_are_left_out_of_it():
    model, images, labels, _ = affine(10, images=10)
    before = torch.random.get_rng_state()
    one, other = (redoubt.evaluate(model, images, labels, **FAST, batch_size=size) for size in (3, 10))
    pd.testing.assert_frame_equal(one.worst, other.worst, rtol=1e-4)
    assert (one.batch_size, other.batch_size) == (3, 10)
    assert torch.equal(before, torch.random.get_rng_state())


def test_in_l2_the_ball_is_round():
    model, images, labels, _ = affine(10, images=8)
    found = redoubt.evaluate(model, images, labels, "l2", 0.5, queries=60, attacks=["apgd"])
    assert found.rows["l2"].max() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threat": "l1"}, "threat: 'l1' is not one of linf, l2"),
        ({"attacks": ["pgd"]}, "attacks: 'pgd' is not one of apgd, apgd-targeted, square"),
        ({"attacks": []}, "attacks: 'none' is not one of"),
        ({"images": torch.zeros(8, 4, 4)}, "images: expected float32"),
        ({"labels": torch.full((8,), 10)}, "labels: 10 to 10, the model has classes 0 to 9"),
    ],
)
def test_misuse_is_one_line(changes, message):
    model, images, labels, _ = affine(10, images=8)
    with pytest.raises(RedoubtError, match=message):
        redoubt.evaluate(**{"network": model, "images": images, "labels": labels, **changes})


def test_a_module_in_training_mode_is_refused():
    model, images, labels, _ = affine(10, images=8)
    with pytest.raises(RedoubtError, match="training mode"):
        redoubt.evaluate(model.train(), images, labels)


def test_batches_fit_into_memory():
    layer, images = torch.nn.Conv2d(1, 64, 3, padding=1), torch.rand(4, 1, 32, 32)

    def network(inputs):
        return layer(inputs).relu().square().flatten(1)

    needed = memory.needed(network, images)
    kept = 64 * 32 * 32 * 4  # bytes of what the rectifier and the square keep of an image
    assert kept <= needed <= 2.5 * kept
    room = round(memory.KEPT * needed)
    assert [memory.fitting(network, images, room=part) for part in (0, room, 3 * room, 8 * room)] == [1, 1, 2, 8]
    assert memory.fitting(network, images, room=10**6 * room) == memory.MOST
    assert memory.free(torch.device("cpu")) > 2**20


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(error):
    tried = []

    def run(size):
        tried.append(size)
        if size > 2:
            raise error
        return "done"

    assert memory.shrinking(run, 16) == ("done", 2) and tried == [16, 8, 4, 2]

    def never(size):
        raise error

    with pytest.raises(RedoubtError, match="memory runs out with one image at a time"):
        memory.shrinking(never, 4)


def test_other_errors_are_no_lack_of_memory():
    def run(size):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        memory.shrinking(run, 4)
