"""Files of the Hugging Face hub, brought into the cache of huggingface_hub.

Files come by plain HTTP, into the layout that huggingface_hub documents for its cache.  Its own
`hf_hub_download` removes what it has of a file when it is cut off, over HTTP and over Xet: several
gigabytes would start again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
import fcntl
from functools import partial
import hashlib
from pathlib import Path
import re
import shutil
from typing import BinaryIO

from huggingface_hub import constants
from huggingface_hub.file_download import hf_hub_url, http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from kosmos_ros import __version__
from kosmos_ros.engine.building.estimates import gigabytes
from kosmos_ros.engine.building.hub_errors import plain_errors
from kosmos_ros.engine.building.hub_listing import RemoteFile
from kosmos_ros.engine.directory.checksums import sha256_of
from kosmos_ros.errors import EngineFileError

_COMMIT = re.compile(r'[0-9a-f]{40}')
# Digests of small files are git's SHA-1.
_SHA256_DIGITS = 64


class HubCache:
    """The part of the cache that is for one repository."""

    def __init__(self, name: str, report: Callable[[str], None]) -> None:
        self._name = name
        self._report = report
        folder = repo_folder_name(repo_id=name, repo_type='model')
        self._folder = Path(constants.HF_HUB_CACHE) / folder
        self._blobs = self._folder / 'blobs'

    def snapshot(self, commit: str) -> Path:
        """Return where the files of a commit are or will be."""
        return self._folder / 'snapshots' / commit

    def known_commit(self, revision: str) -> str | None:
        """Return the commit that a branch or tag was when it was last fetched."""
        try:
            commit = (self._folder / 'refs' / revision).read_text(encoding='ascii')
        except (OSError, ValueError):
            return None
        return commit if _COMMIT.fullmatch(commit) else None

    def remember(self, revision: str, commit: str) -> None:
        """Note which commit a branch or tag is, for when there is no network."""
        path = self._folder / 'refs' / revision
        # The checkpoint is whole without it, and the cache may belong to somebody else.
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit, encoding='ascii')

    def has(self, commit: str, file: RemoteFile) -> bool:
        """Return whether a file of a commit is in the cache."""
        return (self.snapshot(commit) / file.name).is_file()

    def check_room(self, commit: str, files: Sequence[RemoteFile]) -> None:
        """Refuse to fetch what the disk has no room for.

        :raises EngineFileError: when it would be full before the last of these files is there.
        """
        needed = sum(file.size - _size(self._partial(file)) for file in files)
        with plain_errors(self._name, commit):
            self._blobs.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._blobs).free
        if free < needed:
            raise EngineFileError(
                f'{constants.HF_HUB_CACHE} has {gigabytes(free)} free and {gigabytes(needed)} '
                'are still to fetch; make room, or set HF_HOME to a directory on another disk'
            )

    def fetch(self, commit: str, file: RemoteFile) -> None:
        """Bring one file of a commit into the cache, from where an earlier attempt ended.

        :raises HubUnreachable: when the connection breaks.
        :raises EngineFileError: when it cannot be written or is not what the hub lists.
        """
        if self.has(commit, file):
            return
        link, blob = self.snapshot(commit) / file.name, self._blobs / file.digest
        with plain_errors(self._name, commit):
            self._blobs.mkdir(parents=True, exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            # Another commit may have brought the same content.
            if not blob.is_file():
                self._download(commit, file, blob)
            # A link whose blob had gone.
            link.unlink(missing_ok=True)
            try:
                link.symlink_to(Path('..', '..', self._blobs.name, file.digest))
            except PermissionError:
                # File systems of memory sticks have no links.
                blob.replace(link)

    def _partial(self, file: RemoteFile) -> Path:
        # `hf cache prune` knows the end of this name.
        return self._blobs / f'{file.digest}.kosmos_ros.incomplete'

    def _download(self, commit: str, file: RemoteFile, blob: Path) -> None:
        path = self._partial(file)
        headers = build_hf_headers(library_name='kosmos_ros', library_version=__version__)
        with path.open('ab') as target:
            self._lock(target, file)
            if target.tell() > file.size:
                target.seek(0)
                target.truncate()
            http_get(
                hf_hub_url(self._name, file.name, revision=commit),
                target,
                resume_size=target.tell(),
                # Of compressed bytes, no part can be asked for.
                headers={**headers, 'Accept-Encoding': 'identity'},
                expected_size=file.size,
                displayed_filename=file.name,
                # Annotated as a class; it is called like one and nothing more.
                tqdm_class=partial(_DownloadProgress, self._report, file),  # type: ignore[arg-type]
            )
            target.flush()
            if _digest_of(path, file) != file.digest:
                # Going on from it would fail in the same way each time.
                path.unlink()
                raise EngineFileError(
                    f'what came of {file.name} is not what {constants.ENDPOINT} lists: its hash '
                    'differs; it was removed, try again'
                )
            path.replace(blob)

    def _lock(self, target: BinaryIO, file: RemoteFile) -> None:
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineFileError(
                f'another process is fetching {file.name} of {self._name}; wait until it has ended'
            ) from None


class _DownloadProgress:
    """What huggingface_hub knows as a bar of tqdm: says in lines how far a file is."""

    def __init__(
        self, report: Callable[[str], None], file: RemoteFile, *, initial: int, **_: object
    ) -> None:
        self._report, self._file, self._done = report, file, initial

    def __enter__(self) -> '_DownloadProgress':
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        self._done += count
        size = max(1, self._file.size)
        self._report(
            f'fetching {self._file.name}: {gigabytes(self._done)} of {gigabytes(size)}, '
            f'{100 * self._done // size} %'
        )


def _digest_of(path: Path, file: RemoteFile) -> str:
    """Return the digest of a file, of the kind that the hub gives for it."""
    if len(file.digest) == _SHA256_DIGITS:
        return sha256_of(path)
    content = path.read_bytes()
    header = f'blob {len(content)}\0'.encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
