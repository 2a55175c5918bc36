"""Correction of the folders in the wheels' CMake files.

The wheels of ROS 2 message packages contain paths of the machine that built them: the headers of
its Python and of its NumPy.  CMake rejects a target whose include folders do not exist, so both
are replaced by this machine's after each installation.
"""

from pathlib import Path
import re

_HEADERS = re.compile(r'/opt/python/cp\d+-cp\d+t?/include/python3\.\d+t?')
_PACKAGES = re.compile(r'/opt/python/cp\d+-cp\d+t?/lib/python3\.\d+t?/site-packages')


def rewrite_exports(share: Path, include: Path, site_packages: Path) -> int:
    """Write this machine's folders into every CMake file under ``share/*/cmake``.

    :param share: the environment's share folder.
    :param include: the folder with Python.h.
    :param site_packages: where the wheels' Python packages are.
    :returns: how many files were changed.
    """
    changed = 0
    for path in sorted(share.glob('*/cmake/*.cmake')):
        before = path.read_text(encoding='utf-8')
        # Replaced by a function: a template would interpret backslashes in a path.
        after = _HEADERS.sub(lambda _: include.as_posix(), before)
        after = _PACKAGES.sub(lambda _: site_packages.as_posix(), after)
        if after != before:
            path.write_text(after, encoding='utf-8')
            changed += 1
    return changed
