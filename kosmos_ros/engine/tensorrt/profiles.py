"""Optimisation profiles: which shapes of the decoder share one of TensorRT's profiles."""

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.tensorrt.installed import Release
from kosmos_ros.engine.tensorrt.tiers import version_of

# Before this version, engines with several profiles could compute wrong numbers (release notes of
# TensorRT 10.8): there, all shapes share one wide profile.
_SEVERAL = Version('10.8')


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes (rows, tokens, slots)."""

    least: Shape
    best: Shape
    most: Shape

    def covers(self, shape: Shape) -> bool:
        """Whether a shape lies within."""
        bounds = zip(self.least, shape, self.most, strict=True)
        return all(least <= size <= most for least, size, most in bounds)


def profiles(recipe: Recipe, release: Release) -> tuple[Profile, ...]:
    """Return the profiles of a decoder plan.

    TensorRT chooses kernels for a profile, so each exact shape has its own.  TensorRT for RTX
    compiles kernels for the shapes that it meets, and there a profile costs time, memory, and a
    second copy of int8 weights for some: it has one for single tokens and one for prompts.
    """
    shapes = tuple(dict.fromkeys(recipe.shapes))
    single = [shape for shape in shapes if shape[1] == 1]
    prompts = [shape for shape in shapes if shape[1] > 1]
    if release.is_rtx:
        return tuple(_range(part) for part in (single, prompts) if part)
    if version_of(release) >= _SEVERAL:
        return tuple(Profile(shape, shape, shape) for shape in shapes)
    return (_range(shapes, min(shape for shape in recipe.prefill if shape[0] == 1)),)


def profile_of(shape: Shape, recipe: Recipe, release: Release) -> int:
    """Return the index of the profile that a shape of the recipe runs in."""
    found = profiles(recipe, release)
    return next(index for index, profile in enumerate(found) if profile.covers(shape))


def _range(shapes: Sequence[Shape], best: Shape | None = None) -> Profile:
    """Return a profile for all of these shapes, by default the best for the smallest."""
    rows, tokens, slots = zip(*shapes, strict=True)
    least, most = (min(rows), min(tokens), min(slots)), (max(rows), max(tokens), max(slots))
    return Profile(least, best or min(shapes), most)
