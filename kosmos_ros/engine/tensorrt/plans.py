"""TensorRT's plans of an engine: a cache in its directory, one folder for each machine and use.

A plan is code for one GPU, one driver and one TensorRT.  Its folder is named after a hash of
everything that it depends on, so a plan of another machine, or of older graphs, is never read.
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

from kosmos_ros.engine.directory.checksums import checksums_of, hashed_json, read_hashed_json
from kosmos_ros.engine.directory.directory import (
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
from kosmos_ros.engine.tensorrt.profiles import profiles
from kosmos_ros.engine.tensorrt.tiers import tier_for
from kosmos_ros.errors import EngineFileError, RunnerUnavailable

FORMAT = 2
PLAN_MANIFEST = 'plan.json'
PARTIAL = '.partial'
# Of what we ask of TensorRT beyond the recipe; raise it when that changes.
_BUILD_REVISION = 1
_NAME_CHARS = 16


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that the plans of one engine on one machine depend on."""

    content: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, recipe: Recipe, machine: Machine) -> 'PlanKey':
        """Collect all of it."""
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
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def folder(self, directory: Path) -> Path:
        """Return where the plans of an engine directory are or would be."""
        return directory / PLANS_FOLDER / self.digest[:_NAME_CHARS]


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of an engine for this machine.

    :param contents: by name.
    :param checked: whether they have given the reference answers.
    """

    folder: Path
    contents: dict[str, bytes]
    checked: bool


def write_plan_manifest(folder: Path, key: PlanKey, *, checked: bool) -> None:
    """Write down the hash of every file in a folder of plans.

    :param checked: whether they have given the reference answers.
    """
    files = {name: asdict(entry) for name, entry in checksums_of(folder, PLAN_MANIFEST).items()}
    fields = {'format': FORMAT, 'key': key.content, 'files': files, 'checked': checked}
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
        others = len(list(_folders(directory)))
        besides = f' (it has plans for {others} other uses or machines)' if others else ''
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
    return Plans(folder, contents, fields.get('checked') is True)


def check_owner(path: Path) -> None:
    """Refuse what others could have written: plans are code.

    :raises EngineFileError: when it is not this user's or root's, or others may write to it.
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
    """A folder of plans, for people."""

    folder: Path
    bytes: int
    complete: bool
    machine: str


def stored_plans(directory: Path) -> list[StoredPlans]:
    """List all plans of an engine directory, unfinished ones and those of other machines too."""
    found = []
    for folder in _folders(directory):
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        machine = 'not finished'
        if complete := not folder.name.endswith(PARTIAL):
            try:
                fields = read_hashed_json(folder / PLAN_MANIFEST, FORMAT)['key']['machine']
                machine = f'{fields["gpu"]["name"]}, TensorRT {fields["tensorrt"]}'
            except (EngineFileError, KeyError, TypeError):
                machine = 'damaged'
        found.append(StoredPlans(folder, size, complete, machine))
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
