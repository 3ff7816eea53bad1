"""Networks that are a chain of layers, spelt in the words of DeepDefense's supplementary table 3.

`Conv-5-32` is a convolution with kernels of 5x5 and 32 output channels, `FC-500` a fully connected layer, `MaxPool-2`
and `AvgPool-2` pool 2x2 with a stride of 2; and there are `ReLU` and `Dropout-0.5`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise

NAMES = {"Conv": "conv", "FC": "fc", "MaxPool": "pool", "AvgPool": "pool", "ReLU": "relu", "Dropout": "dropout"}
WITH_UNITS = ("Conv", "FC")


@dataclass(frozen=True)
class Chain:
    """The layers of a network at its published width; the last of those with units is that of the classes."""

    spelt: str
    padded: bool = False  # convolutions whose kernel has a centre keep the size of their map

    def words(self, parameters: Scaled) -> list[str]:
        """Return the layers, one word each, at the width of a network's parameters."""
        words = self.spelt.split()
        for place in self._numbered(words)[:-1]:
            kind, *sizes, units = words[place].split("-")
            words[place] = "-".join([kind, *sizes, str(parameters.units(int(units)))])
        return words

    def padding(self, word: str) -> int:
        """Return by how much the input of a layer is padded at each side."""
        kind, size, *_ = [*word.split("-"), "0"]
        return int(size) // 2 if self.padded and kind == "Conv" and int(size) % 2 else 0

    def build(self, parameters: Scaled, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
        """Return the network; it maps inputs (N, *shape) to logits (N, classes).

        Layers are called conv1, pool1, relu1, conv2 and so on; `flatten` is in front of the first FC, or at the end.
        """
        words = self.words(parameters)
        last = self._numbered(words)[-1]
        words[last] = "-".join([*words[last].split("-")[:-1], str(classes)])
        layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
        numbers: Counter[str] = Counter()
        for word in words:
            kind = word.split("-")[0]
            if kind == "FC":
                layers.setdefault("flatten", torch.nn.Flatten())
            numbers[NAMES[kind]] += 1
            layers[f"{NAMES[kind]}{numbers[NAMES[kind]]}"] = _layer(word, self.padding(word), layers, shape)
        layers.setdefault("flatten", torch.nn.Flatten())
        return initialise(torch.nn.Sequential(layers), parameters)

    @staticmethod
    def _numbered(words: list[str]) -> list[int]:
        return [place for place, word in enumerate(words) if word.split("-")[0] in WITH_UNITS]


def _layer(word: str, pad: int, before: OrderedDict, shape: tuple[int, int, int]) -> torch.nn.Module:
    nn, (kind, *sizes) = torch.nn, word.split("-")
    if kind == "Conv":
        channels = [layer.out_channels for layer in before.values() if isinstance(layer, nn.Conv2d)]
        return nn.Conv2d(channels[-1] if channels else shape[0], int(sizes[1]), int(sizes[0]), padding=pad)
    if kind == "FC":
        return nn.Linear(flat_features(nn.Sequential(before), shape), int(sizes[0]))
    if kind == "ReLU":
        return nn.ReLU()
    return nn.Dropout(float(sizes[0])) if kind == "Dropout" else getattr(nn, f"{kind}2d")(int(sizes[0]))
