"""TensorRT's plans of an engine: a cache in its directory, one folder for each machine and use.

A plan is code for one GPU, one driver and one TensorRT.  Its folder is named after a hash of
everything that it depends on, so a plan of another machine, or of older graphs, is never even
looked at.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
import hashlib
import json
import os
from pathlib import Path
import shutil
import stat
from typing import Any

from kosmos_ros.engine.directory.checksums import files_of, read_seal, sealed_bytes
from kosmos_ros.engine.directory.file_names import (
    DECODER_PLAN,
    PLANS_FOLDER,
    RECIPE_FILE,
    VISION_GRAPH,
    VISION_PLAN,
    WEIGHTS_FILE,
    decoder_graph,
)
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.machine import Machine
from kosmos_ros.engine.tensorrt.operators import tier_for
from kosmos_ros.engine.tensorrt.profiles import profiles
from kosmos_ros.errors import EngineFileError, RunnerUnavailable

FORMAT = 1
SEAL = 'plan.json'
PARTIAL = '.partial'
# What we ask of TensorRT beyond the recipe; to be raised when that changes.
_BUILD_REVISION = 1
_NAME_CHARS = 16


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that the plans of one engine on one machine depend on."""

    content: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, recipe: Recipe, machine: Machine) -> 'PlanKey':
        """Collect it."""
        tier = tier_for(machine.tensorrt)
        names = (VISION_GRAPH, decoder_graph(tier.name), WEIGHTS_FILE, RECIPE_FILE)
        return cls(
            {
                'revision': _BUILD_REVISION,
                'made_by': manifest.made_by,
                'files': {name: manifest.files[name].sha256 for name in names},
                'recipe': _plain(asdict(recipe)),
                'profiles': _plain([asdict(one) for one in profiles(recipe, machine.tensorrt)]),
                'machine': _plain(asdict(machine)),
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of it."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def folder(self, directory: Path) -> Path:
        """Where the plans of an engine directory are, if they are."""
        return directory / PLANS_FOLDER / self.digest[:_NAME_CHARS]


def seal(folder: Path, key: PlanKey) -> None:
    """Name every file of a folder of plans with its hash."""
    files = {name: asdict(entry) for name, entry in files_of(folder, SEAL).items()}
    fields = {'format': FORMAT, 'key': key.content, 'files': files}
    (folder / SEAL).write_bytes(sealed_bytes(fields))


def read_plans(directory: Path, key: PlanKey) -> dict[str, bytes]:
    """The plans for this machine by name, their hashes checked as they were read.

    :raises RunnerUnavailable: when there are none, with what to run.
    :raises EngineFileError: when they are damaged, or others could have written them.
    """
    folder = key.folder(directory)
    if not folder.is_dir():
        others = len(list(_folders(directory)))
        besides = f' (it has plans for {others} other uses or machines)' if others else ''
        raise RunnerUnavailable(
            f'{directory} has no TensorRT plans for this machine{besides}; run '
            f'`kosmos_ros engine build --out {directory}` here, or set build_plans to missing'
        )
    check_owner(folder)
    fields = read_seal(folder / SEAL, FORMAT)
    if fields.get('key') != key.content:
        raise EngineFileError(f'{folder} holds plans for something else; remove it')
    files = fields['files']
    if set(files) != {VISION_PLAN, DECODER_PLAN}:
        raise EngineFileError(f'{folder / SEAL} does not name the two plans; remove {folder}')
    for name in files:
        if (folder / name).is_symlink():
            raise EngineFileError(f'{folder / name} is a link; remove {folder}')
    return {name: entry.read(folder / name) for name, entry in files.items()}


def check_owner(path: Path) -> None:
    """
    :raises EngineFileError: when somebody else than this user and root could have written it.
    """
    status = path.stat()
    ours = status.st_uid in (os.getuid(), 0)
    if not ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineFileError(
            f'{path} belongs to another user or others may write to it; plans are code: '
            'remove it and build them again'
        )


@dataclass(frozen=True, slots=True)
class StoredPlans:
    """A folder of plans, for a look at it."""

    folder: Path
    bytes: int
    complete: bool
    machine: str


def stored_plans(directory: Path) -> list[StoredPlans]:
    """All plans of an engine directory, also unfinished ones, whatever machine they are for."""
    found = []
    for folder in _folders(directory):
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        machine = 'not finished'
        if complete := not folder.name.endswith(PARTIAL):
            try:
                fields = read_seal(folder / SEAL, FORMAT)['key']['machine']
                machine = f'{fields["gpu"]["name"]}, TensorRT {fields["tensorrt"]}'
            except (EngineFileError, KeyError, TypeError):
                machine = 'damaged'
        found.append(StoredPlans(folder, size, complete, machine))
    return found


def prune(directory: Path, keep: PlanKey | None) -> list[StoredPlans]:
    """Remove all plans but those of `keep`; what was removed."""
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
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(content))
