"""What is to be reached: the least time that the memory allows, and a distance to transformers."""

from collections.abc import Iterator

from gpu_check.report import CheckReport, Goal, State

MOST_OF_LEAST_TIME = 2.0
LEAST_SPEEDUP = 20.0
# PyTorch without graphs is there to show what graphs are worth.
_ENGINES = ('PyTorch captured', 'TensorRT')


def goals_of(report: CheckReport) -> Iterator[Goal]:
    """Compare one expression of our engines with the least time and with transformers, as far as
    these were measured.

    The least time is that of reading the weights: once for the prompt, and once for each step.
    """
    rate = report.part('bandwidth').number('bytes_per_s')
    read = report.part('model').number('bytes_of_a_pass')
    theirs_ms = report.part('transformers').number('expression')
    for name in _ENGINES:
        part = report.part(name)
        took_ms, steps = part.number('expression'), part.number('steps')
        if part.state is not State.OK or took_ms is None or steps is None:
            continue
        if rate and read:
            least_ms = 1e3 * read * (1 + steps) / rate
            ratio = took_ms / least_ms
            what = f'its least time of {least_ms:.2f} ms, at most {MOST_OF_LEAST_TIME:g}'
            yield Goal(name, what, ratio, ratio <= MOST_OF_LEAST_TIME)
        if theirs_ms:
            ratio = theirs_ms / took_ms
            what = f'the speed of transformers, at least {LEAST_SPEEDUP:g}'
            yield Goal(name, what, ratio, ratio >= LEAST_SPEEDUP)
