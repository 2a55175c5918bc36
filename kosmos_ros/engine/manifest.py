"""What an engine directory contains, with a hash of every byte of it.

Nothing of an engine reaches a loader before its hash was checked: a compiled engine is executable
input.
"""

from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path

from kosmos_ros.errors import EngineFileError

FORMAT = 1
FILE_NAME = 'manifest.json'


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``manifest.json``."""

    name: str
    runner: str
    precision: str
    # SHA-256 of the checkpoint's weights, so that engines made from the same model can be
    # recognised.
    model: str
    # What made the engine: version of kosmos_ros and of the exporter.
    made_by: str
    files: dict[str, FileEntry]

    @classmethod
    def of_directory(
        cls, directory: Path, *, name: str, runner: str, precision: str, model: str, made_by: str
    ) -> 'Manifest':
        """Describe all files that lie in `directory` now."""
        files = {
            path.name: _entry(path)
            for path in sorted(directory.iterdir())
            if path.name != FILE_NAME
        }
        return cls(
            name=name,
            runner=runner,
            precision=precision,
            model=model,
            made_by=made_by,
            files=files,
        )

    def write(self, directory: Path) -> None:
        """Put ``manifest.json`` into `directory`."""
        (directory / FILE_NAME).write_bytes(self._serialized())

    @classmethod
    def read(cls, directory: Path) -> 'Manifest':
        """Read the manifest and check it and every file that it names.

        :raises EngineFileError: naming the first thing that is wrong.
        """
        path = directory / FILE_NAME
        if not directory.is_dir():
            raise EngineFileError(f'there is no engine directory {directory}')
        if not path.is_file():
            raise EngineFileError(
                f'{directory} is not an engine directory: it has no {FILE_NAME}; '
                'make one from a checkpoint with `kosmos_ros engine build`'
            )
        manifest = cls._parse(path)
        for file_name, expected in manifest.files.items():
            _check(directory / file_name, expected)
        return manifest

    @classmethod
    def _parse(cls, path: Path) -> 'Manifest':
        damaged = EngineFileError(f'{path} is damaged; copy or build the engine again')
        content = path.read_bytes()
        try:
            fields = json.loads(content)
            engine_format = fields.pop('format')
        except (ValueError, KeyError, AttributeError, TypeError):
            raise damaged from None
        if engine_format != FORMAT:
            raise EngineFileError(
                f'{path} has format {engine_format!r}, this version of kosmos_ros reads {FORMAT}; '
                'build the engine again'
            )
        try:
            del fields['sha256']
            files = {name: FileEntry(**entry) for name, entry in fields.pop('files').items()}
            manifest = cls(files=files, **fields)
        except (KeyError, AttributeError, TypeError):
            raise damaged from None
        # Canonical bytes with a hash of their own: not one byte of the manifest can change unseen.
        if manifest._serialized() != content:
            raise damaged
        for name in files:
            if Path(name).name != name or name in ('', '.', '..', FILE_NAME):
                raise damaged
        return manifest

    def _serialized(self) -> bytes:
        fields = {'format': FORMAT, **asdict(self)}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        return (json.dumps({**fields, 'sha256': digest}, indent=2, sort_keys=True) + '\n').encode()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file of any size, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _entry(path: Path) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))


def _check(path: Path, expected: FileEntry) -> None:
    advice = 'copy or build the engine again'
    if path.is_symlink() or not path.is_file():
        raise EngineFileError(f'{path} is missing; {advice}')
    size = path.stat().st_size
    if size != expected.bytes:
        raise EngineFileError(f'{path} has {size} bytes instead of {expected.bytes}; {advice}')
    if sha256_of(path) != expected.sha256:
        raise EngineFileError(
            f'{path} does not have the content that the manifest names; {advice}'
        )
