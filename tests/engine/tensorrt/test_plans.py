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
from kosmos_ros.engine.machine import Gpu, Machine, PlanTarget
from kosmos_ros.engine.tensorrt.installed import CLASSIC, RTX, Release
from kosmos_ros.engine.tensorrt.plans import (
    PlanKey,
    check_owner,
    check_plans,
    prune,
    read_kernels,
    read_plans,
    stored_plans,
    write_kernels,
    write_plan_manifest,
)
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable

GPU = Gpu('a device', '8.7', 16, 64 << 30, '12.6', '12.6')
MACHINE = Machine(Release(CLASSIC, '10.3.0'), GPU, 'aarch64')
ANY_RTX = PlanTarget(Release(RTX, '1.7.1.116'), None)
PLANS = {'vision.plan': b'vision', 'decoder.plan': b'decoder'}


@pytest.fixture
def files(engines: dict[str, Path], tmp_path: Path) -> EngineDirectory:
    directory = Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))
    return EngineDirectory.verified(directory)


@pytest.fixture
def key(files: EngineDirectory) -> PlanKey:
    return key_for(files, MACHINE)


def key_for(files: EngineDirectory, machine: Machine) -> PlanKey:
    return PlanKey.of(files, PlanTarget.of(machine))


def with_tensorrt(version: str) -> Machine:
    return replace(MACHINE, tensorrt=Release(CLASSIC, version))


def store(directory: Path, key: PlanKey, plans: dict[str, bytes] = PLANS) -> Path:
    folder = key.folder(directory)
    folder.mkdir(mode=0o700, parents=True)
    for name, content in plans.items():
        (folder / name).write_bytes(content)
    write_plan_manifest(folder, key)
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
    target = PlanTarget.of(MACHINE)
    keys = [
        key,
        *(key_for(files, replace(MACHINE, gpu=gpu)) for gpu in changed_gpus()),
        key_for(files, replace(MACHINE, architecture='x86_64')),
        # One profile, several, and another graph.
        *(
            key_for(files, with_tensorrt(version))
            for version in ('10.3.1', '10.8.0', '10.15.0', '11.0.0')
        ),
        *(PlanKey.of(replace(files, recipe=one), target) for one in changed_recipes(files.recipe)),
        *(
            PlanKey.of(replace(files, manifest=one), target)
            for one in changed_manifests(files.manifest)
        ),
        PlanKey.of(files, ANY_RTX),
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
    target = PlanTarget.of(MACHINE)
    assert PlanKey.of(replace(files, manifest=renamed), target) == key
    # The other tier's graph.
    newer = {**files.manifest.files, 'decoder.fused.onnx': other}
    manifest = replace(files.manifest, files=newer)
    assert PlanKey.of(replace(files, manifest=manifest), target) == key
    # A key is what JSON gives back.
    assert json.loads(json.dumps(key.content)) == key.content


def test_plans_for_rtx_are_the_same_for_all_gpus(files: EngineDirectory) -> None:
    machines = [Machine(ANY_RTX.tensorrt, gpu, 'x86_64') for gpu in (GPU, *changed_gpus())]
    machines.append(Machine(ANY_RTX.tensorrt, GPU, 'aarch64'))
    assert {PlanTarget.of(machine) for machine in machines} == {ANY_RTX}
    assert len({machine.key for machine in machines}) == len(machines)
    newer = PlanTarget(Release(RTX, '1.8.0.1'), None)
    keys = [PlanKey.of(files, target) for target in (ANY_RTX, newer)]
    assert keys[0].digest != keys[1].digest


def test_a_tensorrt_that_is_too_old_has_no_plans(files: EngineDirectory) -> None:
    with pytest.raises(EngineError, match=r'8\.6\.1.*10\.3'):
        key_for(files, with_tensorrt('8.6.1'))


def test_stored_and_read_they_are_the_same(files: EngineDirectory, key: PlanKey) -> None:
    folder = store(files.path, key)
    assert read_plans(files.path, key).contents == PLANS
    (stored,) = stored_plans(files.path)
    assert (stored.folder, stored.complete) == (folder, True)
    assert stored.target == MACHINE.describe()
    assert stored.target.startswith('a device (')
    assert stored.target.endswith(', TensorRT 10.3.0')
    assert stored.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_where_they_were_checked_is_kept(files: EngineDirectory, key: PlanKey) -> None:
    store(files.path, key)
    assert read_plans(files.path, key).checked_on == ()
    other = replace(MACHINE, architecture='x86_64')
    for machine in (MACHINE, other):
        read_plans(files.path, key).checked(key, machine)
    assert read_plans(files.path, key).checked_on == (MACHINE.key, other.key)


def test_compiled_kernels_are_sealed_as_plans_are(files: EngineDirectory, key: PlanKey) -> None:
    store(files.path, key)
    plans, kernels = read_plans(files.path, key), {'decoder.plan': b'machine code'}
    assert read_kernels(plans, key, MACHINE) == {}
    for content in ({'vision.plan': b'older'}, kernels):
        write_kernels(plans, key, MACHINE, content)
    assert read_kernels(plans, key, MACHINE) == kernels
    other = replace(MACHINE, gpu=replace(GPU, name='another'))
    assert read_kernels(plans, key, other) == {}
    # They lie within the folder of the plans, and change nothing about how that is read.
    assert read_plans(files.path, key).contents == PLANS
    assert check_plans(files.path) == stored_plans(files.path)
    (folder,) = (path for path in plans.folder.iterdir() if path.is_dir())
    # Given to another card by hand.
    target = folder.with_name(f'kernels-{other.key[:16]}')
    shutil.copytree(folder, target)
    with pytest.raises(EngineFileError, match='holds kernels for something else; remove it'):
        read_kernels(plans, key, other)
    folder.chmod(0o777)
    with pytest.raises(EngineFileError, match='others may write to it'):
        read_kernels(plans, key, MACHINE)
    folder.chmod(0o700)
    (folder / 'decoder.plan').write_bytes(b'machine cOde')
    with pytest.raises(EngineFileError, match='does not have the content'):
        read_kernels(plans, key, MACHINE)
    with pytest.raises(EngineFileError, match='does not have the content'):
        check_plans(files.path)


def test_none_says_what_to_run(files: EngineDirectory, key: PlanKey) -> None:
    message = f'{files.path} has no TensorRT plans for this machine; run `kosmos_ros engine '
    with pytest.raises(RunnerUnavailable, match=re.escape(message)):
        read_plans(files.path, key)
    assert stored_plans(files.path) == []
    store(files.path, key_for(files, with_tensorrt('10.4.0')))
    with pytest.raises(RunnerUnavailable, match=r'has some for a device .* TensorRT 10\.4\.0\)'):
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
    write_plan_manifest(folder, key_for(files, with_tensorrt('10.4.0')))
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
        store(files.path, key_for(files, one))
        for one in (with_tensorrt('10.4.0'), replace(MACHINE, architecture='x86_64'))
    ]
    unfinished = kept.with_name(f'{kept.name}.partial')
    unfinished.mkdir()
    (unfinished / 'vision.plan').write_bytes(b'half')
    damaged = kept.with_name('damaged')
    damaged.mkdir()
    timing = kept.with_name('0123456789abcdef.timing')
    timing.write_bytes(b'cache')

    machines = {one.folder: (one.complete, one.target) for one in stored_plans(files.path)}
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
