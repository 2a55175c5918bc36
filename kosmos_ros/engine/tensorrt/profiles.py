"""Optimisation profiles: which shapes of the decoder share one of TensorRT's profiles."""

from dataclasses import dataclass

from packaging.version import Version

from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.tensorrt.tiers import parse_version

# Before this version, engines with several profiles could compute wrong numbers (release notes of
# TensorRT 10.8): there, all shapes share one wide profile.
_SEVERAL = Version('10.8')


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes (rows, tokens, slots)."""

    least: Shape
    best: Shape
    most: Shape


def profiles(recipe: Recipe, version: str) -> tuple[Profile, ...]:
    """Return the profiles of a decoder plan: one for each exact shape, or one for all shapes."""
    shapes = tuple(dict.fromkeys(recipe.shapes))
    if parse_version(version) >= _SEVERAL:
        return tuple(Profile(shape, shape, shape) for shape in shapes)
    rows, tokens, slots = zip(*shapes, strict=True)
    usual = min(shape for shape in recipe.prefill if shape[0] == 1)
    least, most = (min(rows), min(tokens), min(slots)), (max(rows), max(tokens), max(slots))
    return (Profile(least, usual, most),)


def profile_of(shape: Shape, recipe: Recipe, version: str) -> int:
    """Return the index of the profile that a shape runs in."""
    shapes = tuple(dict.fromkeys(recipe.shapes))
    return shapes.index(shape) if len(profiles(recipe, version)) > 1 else 0
