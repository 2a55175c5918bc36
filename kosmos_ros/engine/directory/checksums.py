"""Directories whose every byte is checked: a JSON file names all others with size and SHA-256, and
carries a hash of itself.

No file of such a directory reaches a loader before its hash was checked: a compiled engine is
executable input.
"""

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import stat
from typing import Any

from kosmos_ros.errors import EngineFileError

_ADVICE = 'copy or build the engine again'


@dataclass(frozen=True, slots=True)
class FileChecksum:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> 'FileChecksum':
        """Describe a file as it is now."""
        return cls(path.stat().st_size, sha256_of(path))

    def check(self, path: Path) -> None:
        """Compare a file with what it must be.

        :raises EngineFileError: when it differs in anything, or is a link.
        """
        try:
            # Not `is_file`, which follows links.
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise EngineFileError(f'{path} is missing; {_ADVICE}')
            if status.st_size != self.bytes:
                raise EngineFileError(
                    f'{path} has {status.st_size} bytes instead of {self.bytes}; {_ADVICE}'
                )
            if sha256_of(path) != self.sha256:
                raise _changed(path)
        except FileNotFoundError:
            raise EngineFileError(f'{path} is missing; {_ADVICE}') from None
        except (OSError, ValueError) as error:
            raise EngineFileError(f'{path} cannot be read ({error}); {_ADVICE}') from None

    def read(self, path: Path) -> builtins.bytes:
        """Return the content of a file, checked as it is read: it cannot be exchanged in between.

        :raises EngineFileError: when it is not what it must be.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineFileError(f'{path} cannot be read ({error}); {_ADVICE}') from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _changed(path)
        return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def checksums_of(directory: Path, leave_out: str) -> dict[str, FileChecksum]:
    """Describe all files that lie in a directory now, but the one named `leave_out`."""
    return {
        path.name: FileChecksum.of(path)
        for path in sorted(directory.iterdir())
        if path.is_file() and path.name != leave_out
    }


def hashed_json(fields: Mapping[str, Any]) -> bytes:
    """Return canonical JSON with a hash of itself, so that any changed byte is noticed."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**fields, 'sha256': digest}, indent=2, sort_keys=True) + '\n').encode()


def read_hashed_json(path: Path, reads_format: int) -> dict[str, Any]:
    """Read the fields of a file that `hashed_json` wrote; ``files`` as `FileChecksum` by name.

    :raises EngineFileError: when it is damaged or of another format.
    """
    damaged = EngineFileError(f'{path} is damaged; {_ADVICE}')
    try:
        content = path.read_bytes()
        fields = json.loads(content)
        engine_format = fields['format']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise damaged from None
    if engine_format != reads_format:
        raise EngineFileError(
            f'{path} has format {engine_format!r}, this version of kosmos_ros reads '
            f'{reads_format}; build the engine again'
        )
    try:
        fields.pop('sha256')
        if hashed_json(fields) != content:
            raise damaged
        files = {name: FileChecksum(**entry) for name, entry in fields['files'].items()}
    except (KeyError, AttributeError, TypeError):
        raise damaged from None
    for name in files:
        if Path(name).name != name or name in ('', '.', '..', path.name):
            raise damaged
    del fields['format']
    return {**fields, 'files': files}


def _changed(path: Path) -> EngineFileError:
    return EngineFileError(f'{path} does not have the content that the manifest names; {_ADVICE}')
