"""Progress of loading: always the latest line, never a flood of log lines."""

from kosmos_ros.node.diagnostics.loading_progress import LoadingProgress


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_logs_each_stage_and_else_every_five_seconds() -> None:
    logged: list[str] = []
    clock = Clock()
    progress = LoadingProgress(logged.append, clock)
    assert progress.line == ''
    for percent in range(100):
        progress.report(f'building decoder.plan: {percent} %')
        assert progress.line == f'building decoder.plan: {percent} %'
        clock.now_s += 0.125
    assert logged == [f'building decoder.plan: {percent} %' for percent in (0, 40, 80)]
    progress.report('self-check quick: prefill ok')
    progress.report('self-check quick: decode ok')
    assert logged[3:] == ['self-check quick: prefill ok']
    assert progress.line == 'self-check quick: decode ok'


def test_says_nothing_twice_and_nothing_empty() -> None:
    logged: list[str] = []
    clock = Clock()
    progress = LoadingProgress(logged.append, clock)
    for line in ('reading weights', '', 'reading weights'):
        progress.report(line)
        clock.now_s += 10
    assert logged == ['reading weights']
    assert progress.line == 'reading weights'


def test_a_line_is_one_line() -> None:
    progress = LoadingProgress([].append)
    progress.report('building: [TRT]\n5 %')
    assert progress.line == 'building: [TRT]\\x0a5 %'


def test_an_abandoned_load_is_not_heard() -> None:
    logged: list[str] = []
    progress = LoadingProgress(logged.append)
    progress.report('building: 1 %')
    progress.end()
    progress.report('checking: prefill')
    assert logged == ['building: 1 %']
    assert progress.line == 'building: 1 %'
