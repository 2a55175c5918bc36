"""Where the engines and recipes lie that come with the package."""

from pathlib import Path

from kosmos_ros.errors import EngineFileError


def engines_folder() -> Path:
    """The folder ``engines``, in a checkout or installed under a prefix.

    :raises EngineFileError: when it is in neither.
    """
    for folder in Path(__file__).resolve().parents:
        for place in ('engines', 'share/kosmos_ros/engines'):
            if (folder / place / 'tabletop').is_dir():
                return folder / place
    raise EngineFileError('the folder engines is missing; install kosmos_ros again')
