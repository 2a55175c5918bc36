"""Engines of other packages, as pip would leave them."""

from pathlib import Path
import re

from kosmos_ros import Limits, Report
from kosmos_ros.testing import FakeEngine

COLOUR_ENGINE = Path(__file__).parents[1] / 'docs' / 'examples' / 'colour_engine'


def declare_engine(folder: Path, entry_point: str) -> None:
    """Lay the metadata of a package into a folder of the search path.

    :param entry_point: its line in the group ``kosmos_ros.engines``: NAME = MODULE:FACTORY.
    """
    name = entry_point.partition(' ')[0]
    metadata = folder / f'{name}_engine-1.0.dist-info'
    metadata.mkdir(parents=True)
    (metadata / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}_engine\nVersion: 1.0\n'
    )
    (metadata / 'entry_points.txt').write_text(f'[kosmos_ros.engines]\n{entry_point}\n')


def install_colour_engine(folder: Path) -> list[Path]:
    """Declare the colour engine as its own pyproject.toml does.

    :return: what must be on the search path.
    """
    project = (COLOUR_ENGINE / 'pyproject.toml').read_text(encoding='utf-8')
    (entry_point,) = re.findall(
        r'^\[project\.entry-points\."kosmos_ros\.engines"\]\n(\w+ = )\'(.+)\'$', project, re.M
    )
    declare_engine(folder, ''.join(entry_point))
    return [folder, COLOUR_ENGINE]


def fake(argument: str, limits: Limits, report: Report) -> FakeEngine:
    """A factory of an engine that needs no script."""
    return FakeEngine(limits=limits)
