"""The stages of a build, which an interrupted build does not repeat."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.directory.manifest import FILE_NAME

PARTIAL = '.partial'
# Which stages of an unfinished build are done, and of which build.
PROGRESS_FILE = 'progress.json'


class BuildStages:
    """An unfinished engine directory: it has no manifest, so nothing loads it.

    :param key: of everything that the build depends on; the stages of another build are removed.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self._done = self._read_done()
        if not self._done:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        # Left by an interruption between the manifest and the new name.
        (folder / FILE_NAME).unlink(missing_ok=True)

    def run(self, name: str, work: Callable[[], None], report: Report) -> None:
        """Run a stage, unless an earlier attempt at this very build has finished it."""
        if name in self._done:
            report(f'{name}: done before')
            return
        report(f'{name} ...')
        work()
        self._done.append(name)
        draft = self.folder / f'{PROGRESS_FILE}.part'
        draft.write_text(json.dumps({'key': self._key, 'done': self._done}), encoding='utf-8')
        draft.replace(self.folder / PROGRESS_FILE)

    def forget(self) -> None:
        """Remove the note of what is done."""
        (self.folder / PROGRESS_FILE).unlink()

    def _read_done(self) -> list[str]:
        try:
            progress = json.loads((self.folder / PROGRESS_FILE).read_text(encoding='utf-8'))
            return list(progress['done']) if progress['key'] == self._key else []
        except (OSError, ValueError, KeyError, TypeError):
            return []
