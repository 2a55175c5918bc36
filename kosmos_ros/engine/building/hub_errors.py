"""What may go wrong with the Hugging Face hub, each as one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
import errno

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kosmos_ros.errors import EngineFileError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ON = 'the same command goes on where this one stopped'


class HubUnreachable(EngineFileError):
    """The hub does not answer, or not now; what is in the cache may do."""


@contextmanager
def plain_errors(name: str, revision: str) -> Iterator[None]:
    """Raise what huggingface_hub, HTTP and the disk raise as errors that a user understands.

    :param name: of the repository.
    :raises HubUnreachable: when another moment or another network could help.
    :raises EngineFileError: otherwise.
    """
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, name, revision) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable(
            f'the cache {constants.HF_HUB_CACHE} does not hold all of {name} at {revision}, and '
            'HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE'
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise HubUnreachable(
            f'{name} at {revision} cannot be fetched from {constants.ENDPOINT} '
            f'({str(error) or type(error).__name__}); check the network: {_ON}; or give the '
            'directory of a checkpoint that was fetched elsewhere'
        ) from error
    except OSError as error:
        raise _not_written(error, name) from error


def _refused(error: HfHubHTTPError, name: str, revision: str) -> EngineFileError:
    status = error.response.status_code
    page = f'{constants.ENDPOINT}/{name}'
    if isinstance(error, GatedRepoError):
        return EngineFileError(
            f'{page} asks you to accept its terms; do so there, and set HF_TOKEN to a token of '
            'yours'
        )
    if isinstance(error, RevisionNotFoundError):
        return EngineFileError(
            f'{page} has no revision {revision}; give a commit hash, a tag or a branch of it'
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return EngineFileError(f'{page} lists a file that it does not have; try again later')
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return EngineFileError(
            f'there is no directory {name} here, and {page} does not exist or is private; check '
            'the name, and for a private repository, set HF_TOKEN to a token that may read it'
        )
    if status in (401, 403):
        return EngineFileError(
            f'{page} is not for you to read; set HF_TOKEN to a token that may read it'
        )
    if status == 429:
        return HubUnreachable(
            f'{constants.ENDPOINT} has had too many requests from here; wait, or set HF_TOKEN: '
            f'{_ON}'
        )
    if status >= 500:
        return HubUnreachable(
            f'{constants.ENDPOINT} fails (HTTP {status}); try again later: {_ON}'
        )
    return EngineFileError(f'{constants.ENDPOINT} refuses to give {name} (HTTP {status})')


def _not_written(error: OSError, name: str) -> EngineFileError:
    if error.errno in _FULL:
        return EngineFileError(
            f'the disk of {constants.HF_HUB_CACHE} is full; make room: {_ON}; or set HF_HOME to '
            'a directory on another disk'
        )
    if error.errno is None:
        # That is how huggingface_hub says that fewer or more bytes came than were to come.
        return EngineFileError(
            f'what came of {name} is not as long as {constants.ENDPOINT} lists it; try again'
        )
    return EngineFileError(
        f'{name} cannot be put into the cache {constants.HF_HUB_CACHE} ({error.strerror}); set '
        'HF_HOME to a directory that can be written'
    )
