"""Optimisation profiles: which shapes of the decoder share one of TensorRT's profiles."""

from dataclasses import dataclass

from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.tensorrt.versions import version_of

# Before this version, engines with several profiles could compute wrong numbers (release notes of
# TensorRT 10.8): there, all shapes share one wide profile.
_SEVERAL = (10, 8)


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes (rows, tokens, slots)."""

    least: Shape
    best: Shape
    most: Shape


def profiles(recipe: Recipe, version: str) -> tuple[Profile, ...]:
    """The profiles of a decoder plan: one exact one for each shape, or one for all of them."""
    shapes = tuple(dict.fromkeys(recipe.shapes))
    if version_of(version) >= _SEVERAL:
        return tuple(Profile(shape, shape, shape) for shape in shapes)
    rows, tokens, slots = zip(*shapes, strict=True)
    usual = min(shape for shape in recipe.prefill if shape[0] == 1)
    least, most = (min(rows), min(tokens), min(slots)), (max(rows), max(tokens), max(slots))
    return (Profile(least, usual, most),)


def profile_of(shape: Shape, recipe: Recipe, version: str) -> int:
    """Index of the profile that a shape runs in."""
    shapes = tuple(dict.fromkeys(recipe.shapes))
    return shapes.index(shape) if len(profiles(recipe, version)) > 1 else 0
