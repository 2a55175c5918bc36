"""TensorRT's plans of an engine: a cache in its directory, one folder for each machine and use.

A plan is code for one GPU, one driver and one TensorRT, or for one release of TensorRT for RTX.
Its folder is named after a hash of everything that it depends on, so a plan of another machine, or
of older graphs, is never read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
import hashlib
import json
import os
from pathlib import Path
import shutil
import stat
from typing import Any

from kosmos_ros.engine.directory.checksums import checksums_of, hashed_json, read_hashed_json
from kosmos_ros.engine.directory.directory import (
    DECODER_PLAN,
    PLANS_FOLDER,
    RECIPE_FILE,
    VISION_GRAPH,
    VISION_PLAN,
    WEIGHTS_FILE,
    EngineDirectory,
    decoder_graph,
)
from kosmos_ros.engine.machine import Machine, PlanTarget
from kosmos_ros.engine.tensorrt.profiles import profiles
from kosmos_ros.engine.tensorrt.tiers import tier_for
from kosmos_ros.errors import EngineFileError, RunnerUnavailable

FORMAT = 3
PLAN_MANIFEST = 'plan.json'
PARTIAL = '.partial'
# Of what we ask of TensorRT beyond the recipe; raise it when that changes.
_BUILD_REVISION = 2
_NAME_CHARS = 16


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that the plans of one engine for one target depend on."""

    content: dict[str, Any]

    @classmethod
    def of(cls, directory: EngineDirectory, target: PlanTarget) -> 'PlanKey':
        """Collect all of it."""
        manifest, recipe = directory.manifest, directory.recipe
        tier = tier_for(target.tensorrt, directory.config.text.head_dim)
        names = (VISION_GRAPH, decoder_graph(tier.name), WEIGHTS_FILE, RECIPE_FILE)
        return cls(
            {
                'revision': _BUILD_REVISION,
                'made_by': manifest.made_by,
                'files': {name: manifest.files[name].sha256 for name in names},
                'recipe': _plain(asdict(recipe)),
                'profiles': _plain([asdict(one) for one in profiles(recipe, target.tensorrt)]),
                'target': _plain(asdict(target)),
                'for': target.describe(),
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def folder(self, directory: Path) -> Path:
        """Return where the plans of an engine directory are or would be."""
        return directory / PLANS_FOLDER / self.digest[:_NAME_CHARS]


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of an engine for this machine.

    :param contents: by name.
    :param checked_on: keys of the machines on which they have given the reference answers.
    """

    folder: Path
    contents: dict[str, bytes]
    checked_on: tuple[str, ...]

    def checked(self, key: PlanKey, machine: Machine) -> None:
        """Write down that they have given the reference answers on a machine.

        :raises OSError: when the folder is read-only.
        """
        write_plan_manifest(self.folder, key, checked_on=(*self.checked_on, machine.key))


def write_plan_manifest(folder: Path, key: PlanKey, *, checked_on: tuple[str, ...] = ()) -> None:
    """Write down the hash of every file in a folder of plans.

    :param checked_on: keys of the machines on which they have given the reference answers.
    """
    files = {name: asdict(entry) for name, entry in checksums_of(folder, PLAN_MANIFEST).items()}
    fields = {'format': FORMAT, 'key': key.content, 'files': files, 'checked_on': checked_on}
    draft = folder.with_name(f'{folder.name}.{PLAN_MANIFEST}')
    draft.write_bytes(hashed_json(fields))
    draft.replace(folder / PLAN_MANIFEST)


def read_plans(directory: Path, key: PlanKey) -> Plans:
    """Read the plans for this machine; their hashes are checked as they are read.

    :raises RunnerUnavailable: when there are none, with what to run.
    :raises EngineFileError: when they are damaged, or others could have written them.
    """
    folder = key.folder(directory)
    if not folder.is_dir():
        others = '; '.join(plans.target for plans in stored_plans(directory))
        besides = f' (it has some for {others})' if others else ''
        raise RunnerUnavailable(
            f'{directory} has no TensorRT plans for this machine{besides}; run '
            f'`kosmos_ros engine build --out {directory}` here, or set build_plans to missing'
        )
    check_owner(folder)
    fields = read_hashed_json(folder / PLAN_MANIFEST, FORMAT)
    if fields.get('key') != key.content:
        raise EngineFileError(f'{folder} holds plans for something else; remove it')
    files = fields['files']
    if set(files) != {VISION_PLAN, DECODER_PLAN}:
        raise EngineFileError(
            f'{folder / PLAN_MANIFEST} does not name the two plans; remove {folder}'
        )
    for name in files:
        if (folder / name).is_symlink():
            raise EngineFileError(f'{folder / name} is a link; remove {folder}')
    contents = {name: entry.read(folder / name) for name, entry in files.items()}
    return Plans(folder, contents, tuple(fields.get('checked_on', ())))


def read_kernels(plans: Plans, key: PlanKey, machine: Machine) -> dict[str, bytes]:
    """Read the kernels that TensorRT for RTX compiled for these plans on a machine, by plan.

    They are as trusted, and as dangerous, as the plans themselves.

    :return: {} when there are none.
    :raises EngineFileError: when they are damaged, or others could have written them.
    """
    folder = _kernels_folder(plans, machine)
    if not folder.is_dir():
        return {}
    check_owner(folder)
    fields = read_hashed_json(folder / PLAN_MANIFEST, FORMAT)
    if fields.get('key') != _kernels_key(key, machine):
        raise EngineFileError(f'{folder} holds kernels for something else; remove it')
    return {name: entry.read(folder / name) for name, entry in fields['files'].items()}


def write_kernels(
    plans: Plans, key: PlanKey, machine: Machine, kernels: Mapping[str, bytes]
) -> None:
    """Keep compiled kernels for the next start on this machine.

    :raises OSError: when they cannot be written.
    """
    folder = _kernels_folder(plans, machine)
    partial = folder.with_name(folder.name + PARTIAL)
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(mode=0o700)
    for name, content in kernels.items():
        (partial / name).write_bytes(content)
    files = {name: asdict(entry) for name, entry in checksums_of(partial, PLAN_MANIFEST).items()}
    fields = {'format': FORMAT, 'key': _kernels_key(key, machine), 'files': files}
    (partial / PLAN_MANIFEST).write_bytes(hashed_json(fields))
    partial.rename(folder)


def _kernels_folder(plans: Plans, machine: Machine) -> Path:
    return plans.folder / f'kernels-{machine.key[:_NAME_CHARS]}'


def _kernels_key(key: PlanKey, machine: Machine) -> dict[str, Any]:
    return {'plans': key.content, 'machine': _plain(asdict(machine))}


def check_owner(path: Path) -> None:
    """Refuse what others could have written: plans are code.

    :raises EngineFileError: when it is not this user's or root's, or others may write to it.
    """
    status = path.stat()
    ours = status.st_uid in (os.getuid(), 0)
    if not ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineFileError(
            f'{path} belongs to another user or others may write to it; plans are code: if they '
            'are yours, chown and chmod go-w the folder, else remove it and build them again'
        )


@dataclass(frozen=True, slots=True)
class StoredPlans:
    """A folder of plans, for people.

    :param target: what they are for; or 'not finished', 'damaged'.
    """

    folder: Path
    bytes: int
    complete: bool
    target: str


def stored_plans(directory: Path) -> list[StoredPlans]:
    """List all plans of an engine directory, unfinished ones and those of other machines too."""
    found = []
    for folder in _folders(directory):
        size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
        target = 'not finished'
        if complete := not folder.name.endswith(PARTIAL):
            try:
                target = read_hashed_json(folder / PLAN_MANIFEST, FORMAT)['key']['for']
            except (EngineFileError, KeyError, TypeError):
                target = 'damaged'
        found.append(StoredPlans(folder, size, complete, target))
    return found


def check_plans(directory: Path) -> list[StoredPlans]:
    """Check all finished plans, and the kernels that belong to them, without loading any.

    :raises EngineFileError: when one is damaged, or others could have written it.
    """
    found = [plans for plans in stored_plans(directory) if plans.complete]
    for plans in found:
        kernels = (
            path
            for path in sorted(plans.folder.iterdir())
            if path.is_dir() and not path.name.endswith(PARTIAL)
        )
        for folder in (plans.folder, *kernels):
            check_owner(folder)
            files = read_hashed_json(folder / PLAN_MANIFEST, FORMAT)['files']
            for name, entry in files.items():
                entry.check(folder / name)
    return found


def prune(directory: Path, keep: PlanKey | None) -> list[StoredPlans]:
    """Remove all plans but those of `keep`; return what was removed."""
    removed = [
        plans
        for plans in stored_plans(directory)
        if keep is None or plans.folder != keep.folder(directory)
    ]
    for plans in removed:
        shutil.rmtree(plans.folder)
    return removed


def _folders(directory: Path) -> Iterator[Path]:
    root = directory / PLANS_FOLDER
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if path.is_dir())


def _plain(content: Any) -> Any:
    """Return the content as JSON reads it: tuples become lists."""
    return json.loads(json.dumps(content))
