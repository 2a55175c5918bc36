"""Links from the environment to the project, so that edits take effect at once.

This needs no build and no network: it writes one line for Python's search path, one small script
per command, and the files that ``ament_index`` looks for under ``share``.
"""

import configparser
from pathlib import Path

_PACKAGE = 'kosmos_ros'
_SHARED = ('package.xml', 'launch', 'engines')

# The first lines are a shell script that starts Python on the same file; for Python they are a
# string.  A plain '#!' line would allow neither spaces nor more than 127 characters in the path.
_SCRIPT = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from kosmos_ros.environment import prepare

# Guarded, because processes that multiprocessing spawns read this file too.
if __name__ == '__main__':
    prepare()
    from {module} import {function}

    sys.exit({function}())
"""


def link_project(root: Path, venv: Path, site_packages: Path) -> None:
    """Link the project at ``root`` into the environment at ``venv``."""
    (site_packages / f'{_PACKAGE}.pth').write_text(f'{root}\n', encoding='utf-8')
    for name, module, function in console_scripts(root / 'setup.cfg'):
        script = venv / 'bin' / name
        text = _SCRIPT.format(python=venv / 'bin' / 'python', module=module, function=function)
        script.write_text(text, encoding='utf-8')
        script.chmod(0o755)
    marker = venv / 'share' / 'ament_index' / 'resource_index' / 'packages' / _PACKAGE
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    share = venv / 'share' / _PACKAGE
    share.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        link = share / name
        link.unlink(missing_ok=True)
        link.symlink_to(root / name)


def console_scripts(setup_cfg: Path) -> list[tuple[str, str, str]]:
    """Return name, module and function of each command in setup.cfg."""
    declared = configparser.ConfigParser()
    declared.read_string(setup_cfg.read_text(encoding='utf-8'))
    scripts = []
    for line in declared['options.entry_points']['console_scripts'].strip().splitlines():
        name, target = (part.strip() for part in line.split('='))
        module, function = target.split(':')
        scripts.append((name, module, function))
    return scripts
