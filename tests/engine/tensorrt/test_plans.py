"""The cache of TensorRT's plans: whose they are, and what of it may go.

Building and loading them is tested with TensorRT's double.
"""

from dataclasses import fields, replace
import json
from pathlib import Path
import re
import shutil
from typing import Any

import pytest

from kosmos_ros.engine.directory.checksums import FileEntry
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.load import EngineFiles
from kosmos_ros.engine.machine import Gpu, Machine
from kosmos_ros.engine.tensorrt.plans import (
    PlanKey,
    check_owner,
    prune,
    read_plans,
    seal,
    stored_plans,
)
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable

GPU = Gpu('a device', '8.7', 16, 64 << 30, '12.6', '12.6')
MACHINE = Machine('10.3.0', GPU, 'aarch64')
PLANS = {'vision.plan': b'vision', 'decoder.plan': b'decoder'}


@pytest.fixture
def files(engines: dict[str, Path], tmp_path: Path) -> EngineFiles:
    directory = Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))
    return EngineFiles.verified(directory)


@pytest.fixture
def key(files: EngineFiles) -> PlanKey:
    return PlanKey.of(files.manifest, files.recipe, MACHINE)


def store(directory: Path, key: PlanKey, plans: dict[str, bytes] = PLANS) -> Path:
    folder = key.folder(directory)
    folder.mkdir(mode=0o700, parents=True)
    for name, content in plans.items():
        (folder / name).write_bytes(content)
    seal(folder, key)
    return folder


def changed_gpus() -> list[Gpu]:
    return [replace(GPU, **{field.name: getattr(GPU, field.name) * 2}) for field in fields(Gpu)]


def changed_recipes(recipe: Recipe) -> list[Recipe]:
    changes: dict[str, Any] = {
        'description': 'another',
        'runner': 'onnxruntime',
        'precision': 'bf16',
        'prefix': 24,
        'prefill': ((1, 24, 112),),
        'decode': ((1, 112),),
        'optimization_level': 4,
        'workspace_mib': 2048,
    }
    assert set(changes) == {field.name for field in fields(Recipe)}
    return [replace(recipe, **{name: value}) for name, value in changes.items()]


def changed_manifests(manifest: Manifest) -> list[Manifest]:
    other = FileEntry(1, '0' * 64)
    names = ('vision.onnx', 'decoder.products.onnx', 'model.safetensors', 'recipe.yaml')
    return [
        *(replace(manifest, files={**manifest.files, name: other}) for name in names),
        replace(manifest, made_by='another version'),
    ]


def test_the_key_depends_on_all_that_a_plan_depends_on(files: EngineFiles, key: PlanKey) -> None:
    manifest, recipe = files.manifest, files.recipe
    keys = [
        key,
        *(PlanKey.of(manifest, recipe, replace(MACHINE, gpu=gpu)) for gpu in changed_gpus()),
        PlanKey.of(manifest, recipe, replace(MACHINE, architecture='x86_64')),
        # One profile, several, and another graph.
        *(
            PlanKey.of(manifest, recipe, replace(MACHINE, tensorrt=version))
            for version in ('10.3.1', '10.8.0', '10.15.0', '11.0.0')
        ),
        *(PlanKey.of(manifest, one, MACHINE) for one in changed_recipes(recipe)),
        *(PlanKey.of(one, recipe, MACHINE) for one in changed_manifests(manifest)),
    ]
    assert len({one.digest for one in keys}) == len(keys)
    folders = {one.folder(files.directory) for one in keys}
    assert len(folders) == len(keys)
    assert {folder.parent for folder in folders} == {files.directory / 'plans'}


def test_the_key_does_not_depend_on_what_a_plan_does_not(files: EngineFiles, key: PlanKey) -> None:
    other = FileEntry(1, '0' * 64)
    renamed = replace(
        files.manifest, name='another', files={**files.manifest.files, 'golden.safetensors': other}
    )
    assert PlanKey.of(renamed, files.recipe, MACHINE) == key
    # The other tier's graph.
    newer = {**files.manifest.files, 'decoder.attention.onnx': other}
    assert PlanKey.of(replace(files.manifest, files=newer), files.recipe, MACHINE) == key
    # A key is what JSON gives back.
    assert json.loads(json.dumps(key.content)) == key.content


def test_a_tensorrt_that_is_too_old_has_no_plans(files: EngineFiles) -> None:
    with pytest.raises(EngineError, match=r'8\.6\.1.*10\.3'):
        PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='8.6.1'))


def test_stored_and_read_they_are_the_same(files: EngineFiles, key: PlanKey) -> None:
    folder = store(files.directory, key)
    assert read_plans(files.directory, key) == PLANS
    (stored,) = stored_plans(files.directory)
    assert (stored.folder, stored.complete) == (folder, True)
    assert stored.machine == 'a device, TensorRT 10.3.0'
    assert stored.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_none_says_what_to_run(files: EngineFiles, key: PlanKey) -> None:
    message = f'{files.directory} has no TensorRT plans for this machine; run `kosmos_ros engine '
    with pytest.raises(RunnerUnavailable, match=re.escape(message)):
        read_plans(files.directory, key)
    assert stored_plans(files.directory) == []
    other = PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='10.4.0'))
    store(files.directory, other)
    with pytest.raises(RunnerUnavailable, match='plans for 1 other uses or machines'):
        read_plans(files.directory, key)


@pytest.mark.parametrize(
    'plans',
    [{}, {'vision.plan': b'x'}, {**PLANS, 'another.plan': b'x'}],
    ids=['none', 'one', 'three'],
)
def test_other_than_two_plans_are_refused(
    files: EngineFiles, key: PlanKey, plans: dict[str, bytes]
) -> None:
    folder = store(files.directory, key, plans)
    with pytest.raises(EngineFileError, match=f'does not name the two plans; remove {folder}'):
        read_plans(files.directory, key)


def test_plans_of_something_else_under_this_name_are_refused(
    files: EngineFiles, key: PlanKey
) -> None:
    folder = store(files.directory, key)
    other = PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='10.4.0'))
    seal(folder, other)
    with pytest.raises(EngineFileError, match=f'{folder} holds plans for something else'):
        read_plans(files.directory, key)


@pytest.mark.parametrize('name', PLANS)
def test_links_are_refused(files: EngineFiles, key: PlanKey, tmp_path: Path, name: str) -> None:
    folder = store(files.directory, key)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(EngineFileError, match=f'{folder}.* is a link'):
        read_plans(files.directory, key)


def test_bits_and_bytes_that_changed_are_refused(files: EngineFiles, key: PlanKey) -> None:
    folder = store(files.directory, key)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            for content in (bytes(damaged), whole[:position], whole + b'x'):
                path.write_bytes(content)
                with pytest.raises(EngineFileError, match=str(folder)):
                    read_plans(files.directory, key)
        path.unlink()
        with pytest.raises(EngineFileError, match=str(folder)):
            read_plans(files.directory, key)
        path.write_bytes(whole)
    assert read_plans(files.directory, key) == PLANS


@pytest.mark.parametrize('mode', [0o702, 0o720, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(
    files: EngineFiles, key: PlanKey, mode: int
) -> None:
    folder = store(files.directory, key)
    folder.chmod(mode)
    with pytest.raises(EngineFileError, match='others may write to it'):
        read_plans(files.directory, key)
    folder.chmod(0o755)
    check_owner(folder)


def test_a_folder_of_another_user_is_refused(
    files: EngineFiles, key: PlanKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(files.directory, key)
    real = Path.stat

    def stat(path: Path, **options: Any) -> Any:
        status = real(path, **options)
        owner = {'st_uid': 4242, 'st_mode': status.st_mode, 'st_size': status.st_size}
        return type('Status', (), owner) if path == folder else status

    monkeypatch.setattr(Path, 'stat', stat)
    with pytest.raises(EngineFileError, match='belongs to another user'):
        check_owner(folder)


def test_prune_keeps_what_is_in_use(files: EngineFiles, key: PlanKey) -> None:
    kept = store(files.directory, key)
    others = [
        store(files.directory, PlanKey.of(files.manifest, files.recipe, one))
        for one in (replace(MACHINE, tensorrt='10.4.0'), replace(MACHINE, architecture='x86_64'))
    ]
    unfinished = kept.with_name(f'{kept.name}.partial')
    unfinished.mkdir()
    (unfinished / 'vision.plan').write_bytes(b'half')
    damaged = kept.with_name('damaged')
    damaged.mkdir()
    timing = kept.with_name('0123456789abcdef.timing')
    timing.write_bytes(b'cache')

    machines = {one.folder: (one.complete, one.machine) for one in stored_plans(files.directory)}
    assert machines[unfinished] == (False, 'not finished')
    assert machines[damaged] == (True, 'damaged')
    assert len(machines) == 5

    removed = prune(files.directory, key)
    assert {one.folder for one in removed} == {*others, unfinished, damaged}
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([kept.name, timing.name])
    assert read_plans(files.directory, key) == PLANS
    assert prune(files.directory, key) == []

    assert [one.folder for one in prune(files.directory, None)] == [kept]
    assert stored_plans(files.directory) == []
    # The engine itself is untouched.
    EngineFiles.verified(files.directory)
