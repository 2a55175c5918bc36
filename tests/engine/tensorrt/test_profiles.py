"""Which shapes share a profile of TensorRT."""

from dataclasses import replace

import pytest

from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
from kosmos_ros.engine.tensorrt.profiles import Profile, profile_of, profiles

OLD, NEW = ('10.3.0', '10.7.0.post1', '9.9'), ('10.8.0', '10.15.1', '11.0')


@pytest.fixture
def shaped() -> Recipe:
    return replace(
        recipe_named('desktop'),
        prefill=((1, 72, 80), (1, 16, 80), (4, 32, 80), (16, 24, 80), (1, 128, 512)),
        decode=((1, 80), (8, 80), (32, 80), (1, 512)),
    )


@pytest.mark.parametrize('version', OLD)
def test_before_several_profiles_are_safe_all_shapes_share_one(
    shaped: Recipe, version: str
) -> None:
    (profile,) = profiles(shaped, version)
    assert profile == Profile(least=(1, 1, 80), best=(1, 16, 80), most=(32, 128, 512))
    for shape in shaped.shapes:
        assert profile_of(shape, shaped, version) == 0
        for least, size, most in zip(profile.least, shape, profile.most, strict=True):
            assert least <= size <= most


@pytest.mark.parametrize('version', NEW)
def test_since_then_each_shape_has_its_own(shaped: Recipe, version: str) -> None:
    found = profiles(shaped, version)
    assert len(found) == len(shaped.shapes) == 9
    for shape in shaped.shapes:
        assert found[profile_of(shape, shaped, version)] == Profile(shape, shape, shape)
    with pytest.raises(ValueError, match='not in tuple'):
        profile_of((2, 2, 80), shaped, version)


def test_a_shape_that_is_named_twice_is_one(shaped: Recipe) -> None:
    prefill, decode = ((1, 72, 80), (8, 1, 80)), ((8, 80), (1, 80), (8, 80))
    twice = replace(shaped, prefill=prefill, decode=decode)
    assert [one.best for one in profiles(twice, '10.8')] == [(1, 72, 80), (8, 1, 80), (1, 1, 80)]
    assert profile_of((1, 1, 80), twice, '10.8') == 2


@pytest.mark.parametrize('name', ['desktop', 'jetson-orin', 'jetson-thor'])
def test_those_of_our_recipes(name: str) -> None:
    recipe = recipe_named(name)
    assert [one.best for one in profiles(recipe, '10.13')] == list(recipe.shapes)
    (wide,) = profiles(recipe, '10.3')
    assert wide.best == (1, 16, 80)
