"""Images in figures: unscaled pixels, original proportions, and perturbations amplified by a factor that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redoubt.lazily import np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def picture(values: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return an image of `shape` (C, H, W) with values in [0, 1] as (H, W) or (H, W, 3), to be shown."""
    image = np.asarray(values, dtype=float).reshape(shape).transpose(1, 2, 0).clip(0, 1)
    return image[:, :, 0] if image.shape[2] == 1 else image


def amplified(perturbation: np.ndarray, shape: list[int]) -> tuple[np.ndarray, float]:
    """Return a perturbation as a picture, and the factor that it is amplified by.

    Zero is mid-grey, and the largest element, of either sign, is black or white.
    """
    factor = 0.5 / max(float(np.abs(perturbation).max()), 1e-12)
    return picture(0.5 + factor * np.asarray(perturbation, dtype=float), shape), factor


def show(axis: Axes, image: np.ndarray | None) -> None:
    """Show a picture in an axis pixel for pixel, without ticks and frame; None leaves the axis empty."""
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_xticks([])
    axis.set_yticks([])
    if image is not None:
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def class_name(classes: list[str], label: float) -> str:
    """Return the name of a class, its number where names are not known."""
    return classes[int(label)] if int(label) < len(classes) else f"{label:.0f}"


def times(factor: float) -> str:
    """Return an amplification as text, such as `× 12`."""
    return f"× {factor:.2g}" if factor < 100 else f"× {factor:.0f}"


def norms(l2: float, linf: float) -> str:
    """Return the two norms of a perturbation as text, three digits each."""
    return ", ".join(
        f"{name} {size:.3g}" if size < 100 else f"{name} {size:.0f}" for name, size in (("l2", l2), ("l∞", linf))
    )
