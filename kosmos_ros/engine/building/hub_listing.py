"""What a repository of the Hugging Face hub holds."""

from dataclasses import dataclass
import re

from huggingface_hub import HfApi, constants
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from kosmos_ros import __version__
from kosmos_ros.engine.building.hub_errors import plain_errors
from kosmos_ros.errors import EngineFileError

_COMMIT = re.compile(r'[0-9a-f]{40}')
# The hub gives git's SHA-1 of small files and the SHA-256 of large ones.
_DIGEST = re.compile(r'[0-9a-f]{40}|[0-9a-f]{64}')


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it.

    :param digest: of its content; the cache names it so.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of one commit, by name."""

    commit: str
    files: dict[str, RemoteFile]


def list_files(repository: str, revision: str) -> Listing:
    """Ask the hub which commit a revision is and which files it has, in one request.

    :raises HubUnreachable: when it does not answer.
    :raises EngineFileError: when it has no such repository or revision.
    """
    api = HfApi(library_name='kosmos_ros', library_version=__version__)
    with plain_errors(repository, revision):
        try:
            return _listing_of(
                api.model_info(
                    repository,
                    revision=revision,
                    files_metadata=True,
                    timeout=constants.HF_HUB_ETAG_TIMEOUT,
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineFileError(
                f'{constants.ENDPOINT} does not answer as a hub does; check HF_ENDPOINT and the '
                'proxy'
            ) from error


def _listing_of(info: ModelInfo) -> Listing:
    """Read the hub's answer about a commit.

    :raises ValueError: when the answer is not that of a hub.
    """
    files = {one.rfilename: _remote_file(one) for one in info.siblings or ()}
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise ValueError(info.sha)
    return Listing(info.sha, files)


def _remote_file(listed: RepoSibling) -> RemoteFile:
    digest = listed.lfs.sha256 if listed.lfs else listed.blob_id
    # It will be part of a path.
    if listed.size is None or digest is None or not _DIGEST.fullmatch(digest):
        raise ValueError(listed.rfilename)
    return RemoteFile(listed.rfilename, listed.size, digest)
