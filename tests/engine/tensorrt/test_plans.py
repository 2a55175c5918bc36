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

from kosmos_ros.engine.directory.checksums import FileChecksum
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.machine import Gpu, Machine
from kosmos_ros.engine.tensorrt.plans import (
    PlanKey,
    check_owner,
    prune,
    read_plans,
    stored_plans,
    write_plan_manifest,
)
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable

GPU = Gpu('a device', '8.7', 16, 64 << 30, '12.6', '12.6')
MACHINE = Machine('10.3.0', GPU, 'aarch64')
PLANS = {'vision.plan': b'vision', 'decoder.plan': b'decoder'}


@pytest.fixture
def files(engines: dict[str, Path], tmp_path: Path) -> EngineDirectory:
    directory = Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))
    return EngineDirectory.verified(directory)


@pytest.fixture
def key(files: EngineDirectory) -> PlanKey:
    return PlanKey.of(files.manifest, files.recipe, MACHINE)


def store(directory: Path, key: PlanKey, plans: dict[str, bytes] = PLANS) -> Path:
    folder = key.folder(directory)
    folder.mkdir(mode=0o700, parents=True)
    for name, content in plans.items():
        (folder / name).write_bytes(content)
    write_plan_manifest(folder, key, checked=True)
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
    other = FileChecksum(1, '0' * 64)
    names = ('vision.onnx', 'decoder.matmul.onnx', 'model.safetensors', 'recipe.yaml')
    return [
        *(replace(manifest, files={**manifest.files, name: other}) for name in names),
        replace(manifest, made_by='another version'),
    ]


def test_the_key_depends_on_all_that_a_plan_depends_on(
    files: EngineDirectory, key: PlanKey
) -> None:
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
    folders = {one.folder(files.path) for one in keys}
    assert len(folders) == len(keys)
    assert {folder.parent for folder in folders} == {files.path / 'plans'}


def test_the_key_does_not_depend_on_what_a_plan_does_not(
    files: EngineDirectory, key: PlanKey
) -> None:
    other = FileChecksum(1, '0' * 64)
    renamed = replace(
        files.manifest,
        name='another',
        files={**files.manifest.files, 'reference.safetensors': other},
    )
    assert PlanKey.of(renamed, files.recipe, MACHINE) == key
    # The other tier's graph.
    newer = {**files.manifest.files, 'decoder.fused.onnx': other}
    assert PlanKey.of(replace(files.manifest, files=newer), files.recipe, MACHINE) == key
    # A key is what JSON gives back.
    assert json.loads(json.dumps(key.content)) == key.content


def test_a_tensorrt_that_is_too_old_has_no_plans(files: EngineDirectory) -> None:
    with pytest.raises(EngineError, match=r'8\.6\.1.*10\.3'):
        PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='8.6.1'))


def test_stored_and_read_they_are_the_same(files: EngineDirectory, key: PlanKey) -> None:
    folder = store(files.path, key)
    assert read_plans(files.path, key).contents == PLANS
    (stored,) = stored_plans(files.path)
    assert (stored.folder, stored.complete) == (folder, True)
    assert stored.machine == 'a device, TensorRT 10.3.0'
    assert stored.bytes == sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize('checked', [True, False])
def test_whether_they_were_checked_is_kept(
    files: EngineDirectory, key: PlanKey, checked: bool
) -> None:
    folder = store(files.path, key)
    write_plan_manifest(folder, key, checked=checked)
    assert read_plans(files.path, key).checked is checked


def test_none_says_what_to_run(files: EngineDirectory, key: PlanKey) -> None:
    message = f'{files.path} has no TensorRT plans for this machine; run `kosmos_ros engine '
    with pytest.raises(RunnerUnavailable, match=re.escape(message)):
        read_plans(files.path, key)
    assert stored_plans(files.path) == []
    other = PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='10.4.0'))
    store(files.path, other)
    with pytest.raises(RunnerUnavailable, match='plans for 1 other uses or machines'):
        read_plans(files.path, key)


@pytest.mark.parametrize(
    'plans',
    [{}, {'vision.plan': b'x'}, {**PLANS, 'another.plan': b'x'}],
    ids=['none', 'one', 'three'],
)
def test_other_than_two_plans_are_refused(
    files: EngineDirectory, key: PlanKey, plans: dict[str, bytes]
) -> None:
    folder = store(files.path, key, plans)
    with pytest.raises(EngineFileError, match=f'does not name the two plans; remove {folder}'):
        read_plans(files.path, key)


def test_plans_of_something_else_under_this_name_are_refused(
    files: EngineDirectory, key: PlanKey
) -> None:
    folder = store(files.path, key)
    other = PlanKey.of(files.manifest, files.recipe, replace(MACHINE, tensorrt='10.4.0'))
    write_plan_manifest(folder, other, checked=True)
    with pytest.raises(EngineFileError, match=f'{folder} holds plans for something else'):
        read_plans(files.path, key)


@pytest.mark.parametrize('name', PLANS)
def test_links_are_refused(
    files: EngineDirectory, key: PlanKey, tmp_path: Path, name: str
) -> None:
    folder = store(files.path, key)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(EngineFileError, match=f'{folder}.* is a link'):
        read_plans(files.path, key)


def test_bits_and_bytes_that_changed_are_refused(files: EngineDirectory, key: PlanKey) -> None:
    folder = store(files.path, key)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            for content in (bytes(damaged), whole[:position], whole + b'x'):
                path.write_bytes(content)
                with pytest.raises(EngineFileError, match=str(folder)):
                    read_plans(files.path, key)
        path.unlink()
        with pytest.raises(EngineFileError, match=str(folder)):
            read_plans(files.path, key)
        path.write_bytes(whole)
    assert read_plans(files.path, key).contents == PLANS


@pytest.mark.parametrize('mode', [0o702, 0o720, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(
    files: EngineDirectory, key: PlanKey, mode: int
) -> None:
    folder = store(files.path, key)
    folder.chmod(mode)
    with pytest.raises(EngineFileError, match='others may write to it'):
        read_plans(files.path, key)
    folder.chmod(0o755)
    check_owner(folder)


def test_a_folder_of_another_user_is_refused(
    files: EngineDirectory, key: PlanKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(files.path, key)
    real = Path.stat

    def stat(path: Path, **options: Any) -> Any:
        status = real(path, **options)
        owner = {'st_uid': 4242, 'st_mode': status.st_mode, 'st_size': status.st_size}
        return type('Status', (), owner) if path == folder else status

    monkeypatch.setattr(Path, 'stat', stat)
    with pytest.raises(EngineFileError, match='belongs to another user'):
        check_owner(folder)


def test_prune_keeps_what_is_in_use(files: EngineDirectory, key: PlanKey) -> None:
    kept = store(files.path, key)
    others = [
        store(files.path, PlanKey.of(files.manifest, files.recipe, one))
        for one in (replace(MACHINE, tensorrt='10.4.0'), replace(MACHINE, architecture='x86_64'))
    ]
    unfinished = kept.with_name(f'{kept.name}.partial')
    unfinished.mkdir()
    (unfinished / 'vision.plan').write_bytes(b'half')
    damaged = kept.with_name('damaged')
    damaged.mkdir()
    timing = kept.with_name('0123456789abcdef.timing')
    timing.write_bytes(b'cache')

    machines = {one.folder: (one.complete, one.machine) for one in stored_plans(files.path)}
    assert machines[unfinished] == (False, 'not finished')
    assert machines[damaged] == (True, 'damaged')
    assert len(machines) == 5

    removed = prune(files.path, key)
    assert {one.folder for one in removed} == {*others, unfinished, damaged}
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([kept.name, timing.name])
    assert read_plans(files.path, key).contents == PLANS
    assert prune(files.path, key) == []

    assert [one.folder for one in prune(files.path, None)] == [kept]
    assert stored_plans(files.path) == []
    # The engine itself is untouched.
    EngineDirectory.verified(files.path)
