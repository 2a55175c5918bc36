"""The command.  It imports nothing that may be missing here: that is for the parts to say."""

import argparse
from dataclasses import replace
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

from gpu_check.check import PARTS, SECONDS, check
from gpu_check.own_process import in_own_process
from gpu_check.report import CheckReport
from gpu_check.table import table
from gpu_check.task import Task
from kosmos_ros.model.config import Kosmos2Config


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    :return: 0 when all that could run here was right, 1 when something was not.
    """
    parser = argparse.ArgumentParser(
        prog='gpu_check',
        description="Measures kosmos_ros on this machine's GPU, with random weights of the "
        "released model's size, beside transformers and beside the GPU's memory bandwidth.",
    )
    parser.add_argument('--report', type=Path, default=Path('gpu-check.json'), metavar='FILE')
    parser.add_argument(
        '--layers', type=int, metavar='N', help='of both towers, for a quick try; default: all, 24'
    )
    parser.add_argument(
        '--seconds', type=float, default=SECONDS, help='for everything; default: %(default)s'
    )
    parser.add_argument(
        '--folder',
        type=Path,
        help='where to put the model, up to 10 GB, until the end; default: the folder for '
        'temporary files',
    )
    options = parser.parse_args(arguments)
    report = CheckReport()
    with TemporaryDirectory(prefix='gpu-check-', dir=options.folder) as folder:
        task = Task(Path(folder), _config(options.layers))
        check(PARTS, task, report, options.report, options.seconds, in_own_process)
    print('\n'.join(('', *table(report), f'all figures: {options.report}')))
    return report.exit_code


def _config(layers: int | None) -> Kosmos2Config:
    full = Kosmos2Config()
    if layers is None:
        return full
    return replace(
        full,
        text=replace(full.text, layers=layers),
        vision=replace(full.vision, num_hidden_layers=layers),
    )


if __name__ == '__main__':
    sys.exit(main())
