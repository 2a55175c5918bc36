"""Checkpoints by the name that a user gives: a directory, or an id of the Hugging Face hub.

Of a repository, only what a build reads is fetched: configuration, tokenizer and safetensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
from typing import TYPE_CHECKING

from kosmos_ros.engine.building.estimates import gigabytes
from kosmos_ros.engine.directory.directory import CONFIG_FILE
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from kosmos_ros.engine.building.hub_cache import HubCache
    from kosmos_ros.engine.building.hub_listing import Listing, RemoteFile

# What is fetched without --revision, so that the same command gives the same engine next year.
_PINNED = {'microsoft/kosmos-2-patch14-224': 'e91cfbcb4ce051b6a55bfb5f96165a3bbf5eb82c'}
_BRANCH = 'main'
_ONE_FILE = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
# As the hub allows them; neither leaves the folder of the cache that is named after it.
_PART = r'\w(?:[\w.-]{0,94}\w)?'
_ID = re.compile(rf'(?!.*(?:--|\.\.|\.git$)){_PART}/{_PART}', re.ASCII)
_REVISION = re.compile(r'(?!.*(?:\.\.|//))\w(?:[\w./-]*\w)?', re.ASCII)
_COMMIT = re.compile(r'[0-9a-f]{40}')
# A shard lies beside its index: the same rule as for directories.
_SHARD = re.compile(r'[\w-][\w.-]*\.safetensors', re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine.

    :param source: repository and commit that it was fetched from; empty for a user's directory.
    """

    directory: Path
    source: str = ''


def find_checkpoint(
    checkpoint: str, revision: str | None, report: Callable[[str], None]
) -> Checkpoint:
    """Give a checkpoint's directory; a checkpoint of the hub is fetched into the hub's cache.

    What is in the cache already is not fetched again, and a commit that is there as a whole needs
    no network.

    :param checkpoint: an existing directory, or OWNER/NAME.
    :param revision: commit hash, tag or branch of the repository; None is the commit that this
        version of kosmos_ros knows, or the newest of the branch main.
    :param report: gets lines for the user; those that end in % follow each other fast.
    :raises EngineFileError: when there is no such checkpoint or it cannot be fetched, with what to
        do; what was fetched stays, and the next call goes on from there.
    """
    # Not `Path.is_dir`, which fails on what is too long for a path.
    if os.path.isdir(checkpoint):
        if revision is not None:
            raise EngineFileError(f'--revision is for hub ids, and {checkpoint} is a directory')
        return Checkpoint(Path(checkpoint))
    if os.path.exists(checkpoint) or not _ID.fullmatch(checkpoint):
        raise EngineFileError(
            f'{checkpoint!r} is neither a directory nor a hub id; give a directory, or OWNER/NAME '
            'without the address of the hub'
        )
    if revision is not None and not _REVISION.fullmatch(revision):
        raise EngineFileError(
            f'{revision!r} cannot be a revision; give a commit hash, a tag or a branch'
        )
    # Names of the programs around it are nobody's business.  It asks when it is imported.
    os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')
    try:
        # Who has a directory needs no huggingface_hub.
        from kosmos_ros.engine.building.hub_cache import HubCache
    except ImportError as error:
        raise EngineFileError(
            f'there is no directory {checkpoint}, and to fetch it from the hub, the Python '
            'package huggingface_hub is missing or too old (pip install --upgrade huggingface_hub)'
        ) from error
    cache = HubCache(checkpoint, report)
    commit = _bring(cache, checkpoint, revision or _PINNED.get(checkpoint, _BRANCH), report)
    return Checkpoint(cache.snapshot(commit), f'{checkpoint} at commit {commit}')


def _bring(
    cache: 'HubCache', repository: str, revision: str, report: Callable[[str], None]
) -> str:
    """Have a revision in the cache as a whole; which commit it is."""
    from kosmos_ros.engine.building.hub_errors import HubUnreachable
    from kosmos_ros.engine.building.hub_listing import list_files

    pinned = _COMMIT.fullmatch(revision) is not None
    if pinned and _is_whole(cache.snapshot(revision)):
        report(f'{repository} at commit {revision} is in the cache')
        return revision
    try:
        # Once: a branch may move while its files are fetched, a commit does not.
        listing = list_files(repository, revision)
    except HubUnreachable as error:
        known = None if pinned else cache.known_commit(revision)
        if known is None or not _is_whole(cache.snapshot(known)):
            raise
        report(f'{error}\ntaking {revision} as the cache has it: commit {known}')
        return known
    commit = listing.commit
    if pinned and commit != revision:
        raise EngineFileError(
            f'asked for commit {revision} of {repository}, the hub answers with {commit}'
        )
    if not pinned:
        report(f'{revision} of {repository} is now commit {commit}; --revision takes that, too')
    missing = [file for file in _needed(cache, repository, listing) if not cache.has(commit, file)]
    size = gigabytes(sum(file.size for file in missing))
    report(f'{repository} at commit {commit}: {len(missing)} files to fetch, {size}')
    cache.check_room(commit, missing)
    for file in missing:
        cache.fetch(commit, file)
    if not pinned:
        # Last, so that without a network, a name never stands for half a checkpoint.
        cache.remember(revision, commit)
    return commit


def _needed(cache: 'HubCache', repository: str, listing: 'Listing') -> 'list[RemoteFile]':
    """Return the files of a commit that a build reads; an index is fetched for that."""

    def listed(*names: str) -> 'RemoteFile':
        for name in names:
            if name in listing.files:
                return listing.files[name]
        raise EngineFileError(
            f'{repository} at commit {listing.commit} is no checkpoint that can be built: it has '
            f'no {" and no ".join(names)}'
        )

    if not {_ONE_FILE, _INDEX} & set(listing.files) and any(
        re.fullmatch(r'pytorch_model.*\.bin', name) for name in listing.files
    ):
        raise EngineFileError(
            f'{repository} holds its weights as a pickle (pytorch_model.bin), which can run code '
            f'and is never fetched; choose a revision or a repository with {_ONE_FILE}'
        )
    files = [listed(CONFIG_FILE), listed(*TOKENIZER_FILES), listed(_ONE_FILE, _INDEX)]
    if files[-1].name == _INDEX:
        cache.fetch(listing.commit, files[-1])
        index = cache.snapshot(listing.commit) / _INDEX
        files += [listed(name) for name in _shards(index)]
    return files


def _is_whole(snapshot: Path) -> bool:
    """Return whether the cache has all that a build reads of a commit."""
    if not (snapshot / CONFIG_FILE).is_file():
        return False
    if not any((snapshot / name).is_file() for name in TOKENIZER_FILES):
        return False
    if (snapshot / _ONE_FILE).is_file():
        return True
    index = snapshot / _INDEX
    return index.is_file() and all((snapshot / name).is_file() for name in _shards(index))


def _shards(index: Path) -> list[str]:
    """Names of the files that an index spreads the weights over."""
    try:
        names = set(json.loads(index.read_text(encoding='utf-8'))['weight_map'].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EngineFileError(f'{index} is no index of safetensors files') from None
    for name in names:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise EngineFileError(
                f'{index} names {name!r}, which is not a safetensors file of the same directory'
            )
    return sorted(names)
