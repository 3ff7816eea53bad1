"""What users may bring: networks and weights of models, and datasets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from redoubt.records import Count, Strict
from redoubt.study.entries.model import Training

Method = str | dict[str, Any]
"""A method by its name, or by a mapping of its name and parameters."""


class Own(Strict):
    """What a model may have of the user's: a network, weights, or both."""

    module: str | None = Field(
        None,
        pattern=r"^[^:]+:[A-Za-z_]\w*$",
        description="in the place of network: a file of Python, relative to this one, or an importable module, "
        "and the class or function in it that makes the network, as net.py:Net",
    )
    arguments: dict[str, Any] = Field({}, description="for module: what the class or function is called with")
    weights: str | None = Field(
        None, description="file that training starts from, relative to this one: safetensors, or a state_dict of torch"
    )
    training: Training | None = Field(None, description="left out beside weights, these are used as they are")

    @property
    def schedule(self) -> Training:
        """The training; with weights and nothing else said, none."""
        return self.training or Training(epochs=0, batch_size=1, learning_rate=1.0)

    def own_problem(self, network: Method | None) -> str | None:
        """Return what is wrong with these keys beside a `network`, or None."""
        if self.arguments and self.module is None:
            return "arguments come with module"
        if self.module is not None and network is not None:
            return "module and network are given; give one"
        if self.training is None and self.weights is None:
            return "training: this key is required, unless there are weights"
        return None


class Pictures(Strict):
    """A folder of the user's pictures: train/<class>/ and test/<class>/, or train.parquet and test.parquet."""

    path: str = Field(description="the folder, relative to the working directory")
    channels: Literal[1, 3] = Field(3, description="1 for grey pictures")
    height: Count = Field(description="pixels of every picture; none is resized")
    width: Count = Field(description="pixels of every picture")
