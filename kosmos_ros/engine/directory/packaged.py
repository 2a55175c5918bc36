"""Where the engines and recipes lie that come with the package."""

from pathlib import Path

from kosmos_ros.errors import EngineFileError


def packaged_engines() -> Path:
    """Return the folder ``engines``, in a checkout or installed under a prefix.

    :raises EngineFileError: when it is in neither.
    """
    for folder in Path(__file__).resolve().parents:
        for name in ('engines', 'share/kosmos_ros/engines'):
            if (folder / name / 'tabletop').is_dir():
                return folder / name
    raise EngineFileError('the folder engines is missing; install kosmos_ros again')


def embedded_engine() -> Path:
    """Return the directory of the tabletop engine, which comes with the package.

    :raises EngineFileError: when it is missing.
    """
    return packaged_engines() / 'tabletop'
