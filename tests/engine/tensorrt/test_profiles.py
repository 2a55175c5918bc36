"""Which shapes share a profile of TensorRT."""

from dataclasses import replace

import pytest

from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
from kosmos_ros.engine.tensorrt.installed import CLASSIC, RTX, Release
from kosmos_ros.engine.tensorrt.profiles import Profile, profile_of, profiles

OLD, NEW = ('10.3.0', '10.7.0.post1', '9.9'), ('10.8.0', '10.15.1', '11.0')

NEWEST = Release(CLASSIC, '11.4.0.106')


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
    release = Release(CLASSIC, version)
    (profile,) = profiles(shaped, release)
    assert profile == Profile(least=(1, 1, 80), best=(1, 16, 80), most=(32, 128, 512))
    for shape in shaped.shapes:
        assert profile_of(shape, shaped, release) == 0
        assert profile.covers(shape)


@pytest.mark.parametrize('version', NEW)
def test_since_then_each_shape_has_its_own(shaped: Recipe, version: str) -> None:
    release = Release(CLASSIC, version)
    found = profiles(shaped, release)
    assert len(found) == len(shaped.shapes) == 9
    for shape in shaped.shapes:
        assert found[profile_of(shape, shaped, release)] == Profile(shape, shape, shape)


def test_tensorrt_for_rtx_has_one_for_tokens_and_one_for_prompts(shaped: Recipe) -> None:
    release = Release(RTX, '1.7.1.116')
    assert profiles(shaped, release) == (
        Profile(least=(1, 1, 80), best=(1, 1, 80), most=(32, 1, 512)),
        Profile(least=(1, 16, 80), best=(1, 16, 80), most=(16, 128, 512)),
    )
    for shape in shaped.shapes:
        index = profile_of(shape, shaped, release)
        assert index == (shape[1] > 1)
        assert profiles(shaped, release)[index].covers(shape)


def test_a_shape_that_is_named_twice_is_one(shaped: Recipe) -> None:
    prefill, decode = ((1, 72, 80), (8, 1, 80)), ((8, 80), (1, 80), (8, 80))
    twice = replace(shaped, prefill=prefill, decode=decode)
    assert [one.best for one in profiles(twice, NEWEST)] == [(1, 72, 80), (8, 1, 80), (1, 1, 80)]
    assert profile_of((1, 1, 80), twice, NEWEST) == 2


@pytest.mark.parametrize('name', ['desktop', 'jetson-orin', 'jetson-thor', 'rtx'])
def test_those_of_our_recipes(name: str) -> None:
    recipe = recipe_named(name)
    assert [one.best for one in profiles(recipe, NEWEST)] == list(recipe.shapes)
    (wide,) = profiles(recipe, Release(CLASSIC, '10.3'))
    assert wide.best == min(shape for shape in recipe.prefill if shape[0] == 1)
