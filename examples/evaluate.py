"""Evaluate models of your own, from Python alone: run it whole, or cell by cell (# %%) in an editor with notebooks.

It needs `pip install .` and nothing of the pipeline. It takes less than a minute on a laptop.
"""

# %% A model: any module or function from images in [0, 1] to logits. Here two that are trained on coloured blots.
import torch

import redoubt

torch.manual_seed(0)


def blots(count: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (count, 3, size, size) of which one channel is a little brighter, and that channel."""
    labels = torch.arange(count) % 3
    images = 0.3 + 0.3 * torch.rand(count, 3, size, size)
    images[torch.arange(count), labels] += 0.1
    return images, labels


images, labels = blots(300)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), 0.003)
for _ in range(100):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
model.eval()

# %% How robust is it? Three strong attacks, the worst of them for each image, and gates that doubt the number.
tested, truth = blots(50)
found = redoubt.evaluate(model, tested, truth, threat="linf", epsilon=8 / 255, queries=200)
print(found)

# %% The rows: one for each image and attack. Which images fell to which attack?
print(found.worst.groupby("decided_by", dropna=False).size())


# %% A defense that only looks robust: rounding has no gradient. The gates say so.
def rounded(batch: torch.Tensor) -> torch.Tensor:
    """Return the model's logits of images in six grey levels."""
    return model((batch * 5).round() / 5)


print(redoubt.evaluate(rounded, tested, truth, epsilon=8 / 255, queries=200))

# %% One attack with parameters of your own, and its images.
result = redoubt.craft("pgd", model, tested, truth, epsilons=[0.02, 0.04], steps=20)
right = result.rows["adversarial_label"] == result.rows["label"]
print(right.groupby(result.rows["epsilon"]).mean(), tuple(result.images.shape))

# %% A network of torchvision at 224 x 224. Weights are random here; take `weights="IMAGENET1K_V1"` where you have them.
from torchvision.models import resnet18  # noqa: E402

mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Normalised(torch.nn.Module):
    """A network that is given images in [0, 1]: what its weights expect is done inside."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, 3, H, W) in [0, 1]."""
        return self.network((batch - mean[:, None, None]) / std[:, None, None])


large, classes = Normalised(resnet18(weights=None)).eval(), torch.randint(1000, (2,))
found = redoubt.evaluate(large, torch.rand(2, 3, 224, 224), classes, epsilon=4 / 255, attacks=["apgd"], queries=32)
print(found)
