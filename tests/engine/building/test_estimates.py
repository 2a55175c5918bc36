"""What a build will need, and what this machine has."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from engine.cases import on_static_loop
from kosmos_ros.engine.building import estimates as sizes
from kosmos_ros.engine.building.estimates import (
    Estimates,
    PlanEstimates,
    available_memory,
    check_disk,
    check_memory,
)
from kosmos_ros.engine.directory.directory import WEIGHTS_FILE, EngineDirectory
from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
from kosmos_ros.engine.tensorrt.installed import CLASSIC, RTX, Release
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2

ORIN = 'jetson-orin'


def test_parameters_of_the_released_model() -> None:
    config = Kosmos2Config()
    with torch.device('meta'):
        network = Kosmos2(config)
    exact = sum(one.numel() for one in network.parameters())
    assert Estimates.of(config, recipe_named(ORIN)).parameters == pytest.approx(exact, rel=0.01)


def test_weights_by_precision() -> None:
    config, recipe = Kosmos2Config(), recipe_named(ORIN)
    found = {
        precision: Estimates.of(config, recipe.with_precision(precision))
        for precision in ('fp16', 'bf16', 'int8')
    }
    assert found['fp16'] == found['bf16']
    assert found['fp16'].weights == 2 * found['fp16'].parameters
    assert found['int8'].parameters == found['fp16'].parameters
    # The decoder's layers, less a byte each.
    saved = found['fp16'].weights - found['int8'].weights
    assert saved == 24 * (4 * 2048**2 + 2 * 2048 * 8192)
    cpu = Estimates.of(config, recipe_named('cpu'))
    assert cpu.weights == 4 * cpu.parameters


def test_plans_of_the_released_model() -> None:
    """As measured in docs/log.md."""
    config, recipe = Kosmos2Config(), recipe_named('rtx')
    rtx, classic = Release(RTX, '1.7.1.116'), Release(CLASSIC, '10.3')
    fp16 = PlanEstimates.of(config, recipe, rtx)
    assert fp16 == PlanEstimates.of(config, recipe, classic)
    assert 3.09e9 < fp16.plans < 3.3e9
    assert 7.8e9 < fp16.memory < 9e9
    int8 = PlanEstimates.of(config, recipe.with_precision('int8'), rtx)
    assert 1.9e9 < int8.plans < 2.1e9
    assert 5.2e9 < int8.memory < 6e9
    # It may be as much as fp16.
    assert PlanEstimates.of(config, recipe.with_precision('int8'), classic) == fp16


def test_caches_are_what_the_recipe_says() -> None:
    """As the comment in jetson-orin.yaml."""
    assert Estimates.of(Kosmos2Config(), recipe_named(ORIN)).caches == 600 << 20


def test_caches_are_what_the_runner_reserves(engines: dict[str, Path]) -> None:
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    arena = on_static_loop(files)._arena
    memories = (arena.prefix, arena._cache, arena._fresh)
    assert sum(one.nbytes for one in memories) == Estimates.of(files.config, files.recipe).caches


def test_the_estimate_fits_a_real_engine(engines: dict[str, Path]) -> None:
    """Norms and biases, which it leaves out, are much of a tiny model."""
    for name, directory in engines.items():
        config = Kosmos2Config.from_json(directory / 'config.json')
        recipe = Recipe.from_yaml(directory / 'recipe.yaml')
        real = (directory / WEIGHTS_FILE).stat().st_size
        assert 0.6 * real < Estimates.of(config, recipe).weights <= real, name


def test_memory_grows_with_the_model() -> None:
    released, recipe = Kosmos2Config(), recipe_named(ORIN)
    smaller = replace(released, text=replace(released.text, layers=12))
    for name in ('parameters', 'weights', 'caches', 'export_memory'):
        assert getattr(Estimates.of(smaller, recipe), name) < getattr(
            Estimates.of(released, recipe), name
        )
    release = Release(CLASSIC, '10.3')
    plans = [PlanEstimates.of(config, recipe, release) for config in (smaller, released)]
    assert plans[0].plans < plans[1].plans
    assert plans[0].memory < plans[1].memory


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=2_000_000_000)

    monkeypatch.setattr(sizes.shutil, 'disk_usage', usage)
    check_disk(tmp_path, 2_000_000_000, 'make room')
    with pytest.raises(EngineError, match=r'has 2\.0 GB free and 3\.5 GB are needed; make room'):
        check_disk(tmp_path, 3_500_000_000, 'make room')
    assert asked == [tmp_path, tmp_path]


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, 'available_memory', lambda: 2_000_000_000)
    check_memory(2_000_000_000, 'this', 'do that')
    message = r'this takes 3\.5 GB of memory and 2\.0 GB are available; do that'
    with pytest.raises(EngineError, match=message):
        check_memory(3_500_000_000, 'this', 'do that')


def test_available_memory() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total + psutil.swap_memory().total
