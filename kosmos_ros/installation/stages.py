"""The stages of the set-up, each repeated only when its inputs have changed.

A stage's key is a hash of its inputs, including the keys of earlier stages.  When a stage
succeeds, its key is recorded; the stage is fresh as long as both keys are equal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
import hashlib
import json
import os
from pathlib import Path

from kosmos_ros.installation.actions import StageActions
from kosmos_ros.installation.layout import Installation, Interpreter

_REVISION = '1'  # to be raised when an action changes


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the set-up; ``action`` is called with a function that reports progress."""

    name: str
    title: str
    key: str
    action: Callable[[Callable[[str], None]], None]


class Stamps:
    """The keys of the stages that have succeeded, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_fresh(self, stage: Stage) -> bool:
        """Return whether the stage has succeeded with exactly this key."""
        return self._read().get(stage.name) == stage.key

    def record(self, stage: Stage) -> None:
        """Record that the stage has succeeded."""
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


def plan(installation: Installation, interpreter: Interpreter, with_test: bool) -> list[Stage]:
    """Return all stages in order, fresh or not.

    :param interpreter: the Python that the environment has or will have.
    :param with_test: whether to add the stage with the packages of the tests.
    """
    actions = StageActions(installation, interpreter)
    root = installation.root
    requirements, test_requirements = root / 'requirements.txt', root / 'requirements-test.txt'
    own_msgs, vision_msgs = root / 'msg', root / 'msg' / 'vision_msgs'
    # Compiled files contain paths, so all stages are repeated after the repository has moved.
    venv = _key(_REVISION, str(installation.venv), interpreter.name)
    wheels = _key(venv, *_contents(requirements))
    exports = _key(wheels)
    vision = _key(exports, *_contents(vision_msgs))
    own = _key(vision, *_contents(own_msgs, leave_out=vision_msgs))
    links = _key(own, *_contents(root / 'setup.cfg'))
    build_vision = partial(actions.build, 'vision_msgs', vision_msgs)
    build_own = partial(actions.build, 'kosmos_ros_msgs', own_msgs)
    stages = [
        Stage('venv', f'virtual environment of {interpreter.name}', venv, actions.make_venv),
        Stage(
            'wheels',
            'ROS 2 Kilted and ONNX Runtime',
            wheels,
            partial(actions.install, requirements),
        ),
        Stage('exports', 'folders in the CMake files of ROS 2', exports, actions.rewrite),
        Stage('vision_msgs', 'vision_msgs, compiled', vision, build_vision),
        Stage('kosmos_ros_msgs', 'kosmos_ros_msgs, compiled', own, build_own),
        Stage('links', 'kosmos_ros, linked', links, actions.link),
    ]
    if with_test:
        key = _key(venv, *_contents(test_requirements))
        install = partial(actions.install, test_requirements)
        stages.append(Stage('test', 'PyTorch and the tools of the tests', key, install))
    return stages


def _key(*parts: str) -> str:
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _contents(path: Path, leave_out: Path | None = None) -> Iterator[str]:
    """Yield the names and contents of a file, or of all files in a folder."""
    files = sorted(path.rglob('*')) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and (leave_out is None or leave_out not in file.parents):
            yield str(file.relative_to(path.parent))
            yield file.read_text(encoding='utf-8')
