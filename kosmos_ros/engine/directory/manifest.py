"""What an engine directory contains, with a hash of every byte of it."""

from dataclasses import asdict, dataclass
import os
from pathlib import Path

from kosmos_ros.engine.directory.checksums import (
    FileChecksum,
    checksums_of,
    hashed_json,
    read_hashed_json,
)
from kosmos_ros.errors import EngineFileError

FORMAT = 4
FILE_NAME = 'manifest.json'


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``manifest.json``."""

    name: str
    # The fastest runner that the engine was made for; others can run it, too.
    runner: str
    precision: str
    # SHA-256 of the checkpoint's weights, so that engines made from the same model can be
    # recognised.
    model: str
    # What made the engine: version of kosmos_ros and of the exporter.
    made_by: str
    files: dict[str, FileChecksum]

    @classmethod
    def of_directory(
        cls, directory: Path, *, name: str, runner: str, precision: str, model: str, made_by: str
    ) -> 'Manifest':
        """Describe all files that lie in `directory` now."""
        return cls(
            name=name,
            runner=runner,
            precision=precision,
            model=model,
            made_by=made_by,
            files=checksums_of(directory, FILE_NAME),
        )

    def write(self, directory: Path) -> None:
        """Put ``manifest.json`` into `directory`."""
        (directory / FILE_NAME).write_bytes(hashed_json({'format': FORMAT, **asdict(self)}))

    @classmethod
    def read(cls, directory: Path) -> 'Manifest':
        """Read the manifest and check it and every file that it names.

        :raises EngineFileError: naming the first thing that is wrong.
        """
        path = directory / FILE_NAME
        # Unlike Path.is_dir it takes a name of any length.
        if not os.path.isdir(directory):
            raise EngineFileError(
                f'there is no engine directory {directory}; correct the path, or make one from a '
                'checkpoint with `kosmos_ros engine build`'
            )
        if not path.is_file():
            raise EngineFileError(
                f'{directory} is not an engine directory: it has no {FILE_NAME}; '
                'make one from a checkpoint with `kosmos_ros engine build`'
            )
        fields = read_hashed_json(path, FORMAT)
        try:
            manifest = cls(**fields)
        except TypeError:
            raise EngineFileError(f'{path} is damaged; copy or build the engine again') from None
        for file_name, expected in manifest.files.items():
            expected.check(directory / file_name)
        return manifest
