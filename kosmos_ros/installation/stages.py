"""The stages of the set-up, each run again only when what it depends on has changed.

A stage's key is a hash of everything that it depends on, the keys of earlier stages included.
When a stage has ended well, its key is written down; it is fresh as long as both are equal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
import hashlib
import json
import os
from pathlib import Path

from kosmos_ros.installation.actions import Actions
from kosmos_ros.installation.place import Interpreter, Place

_REVISION = '1'  # to be raised when a stage does something else with the same files


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: ``action`` makes true what ``key`` stands for, telling how far it has come."""

    name: str
    title: str
    key: str
    action: Callable[[Callable[[str], None]], None]


class Stamps:
    """The keys of the stages that have ended well, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_fresh(self, stage: Stage) -> bool:
        """Whether the stage was run with exactly this key."""
        return self._read().get(stage.name) == stage.key

    def record(self, stage: Stage) -> None:
        """Note that the stage has ended well."""
        keys = {**self._read(), stage.name: stage.key}
        draft = self._path.with_suffix('.draft')
        draft.write_text(json.dumps(keys, indent=1), encoding='utf-8')
        os.replace(draft, self._path)

    def _read(self) -> dict[str, str]:
        try:
            keys = json.loads(self._path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return keys if isinstance(keys, dict) else {}


def plan(place: Place, interpreter: Interpreter, with_test: bool) -> list[Stage]:
    """All stages in order, fresh or not.

    :param interpreter: the Python that the environment has or is to have.
    :param with_test: whether what the tests need is wanted, too.
    """
    do = Actions(place, interpreter)
    root = place.root
    wanted, wanted_by_tests = root / 'requirements.txt', root / 'requirements-test.txt'
    own_msgs, vision_msgs = root / 'msg', root / 'msg' / 'vision_msgs'
    # Compiled files name folders, so a repository that has moved needs all of them anew.
    venv = _key(_REVISION, str(place.venv), interpreter.name)
    wheels = _key(venv, *_contents(wanted))
    exports = _key(wheels)
    vision = _key(exports, *_contents(vision_msgs))
    own = _key(vision, *_contents(own_msgs, leave_out=vision_msgs))
    links = _key(own, *_contents(root / 'setup.cfg'))
    build_vision = partial(do.build, 'vision_msgs', vision_msgs)
    build_own = partial(do.build, 'kosmos_ros_msgs', own_msgs)
    stages = [
        Stage('venv', f'virtual environment of {interpreter.name}', venv, do.make_venv),
        Stage('wheels', 'ROS 2 Kilted and ONNX Runtime', wheels, partial(do.install, wanted)),
        Stage('exports', 'folders in the CMake files of ROS 2', exports, do.rewrite),
        Stage('vision_msgs', 'vision_msgs, compiled', vision, build_vision),
        Stage('kosmos_ros_msgs', 'kosmos_ros_msgs, compiled', own, build_own),
        Stage('links', 'kosmos_ros, linked', links, do.link),
    ]
    if with_test:
        key = _key(venv, *_contents(wanted_by_tests))
        install = partial(do.install, wanted_by_tests)
        stages.append(Stage('test', 'PyTorch and the tools of the tests', key, install))
    return stages


def _key(*parts: str) -> str:
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _contents(path: Path, leave_out: Path | None = None) -> Iterator[str]:
    """Names and contents of a file, or of all files in a folder."""
    files = sorted(path.rglob('*')) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and (leave_out is None or leave_out not in file.parents):
            yield str(file.relative_to(path.parent))
            yield file.read_text(encoding='utf-8')
