"""What a check has found, for people."""

from collections.abc import Iterator

from gpu_check.report import CheckReport, PartReport, State

# Figures of times, and their titles.
_TIMES = {
    'image': 'image',
    'image_and_expression': 'image + expression',
    'expression': 'expression',
    'eight_expressions': '8 expressions',
    'token': 'token',
}
_TITLES = ('part', 'state', 'took s', 'build s', 'load s', *_TIMES.values(), 'GPU memory GB')


def table(report: CheckReport) -> Iterator[str]:
    """Return lines: a table of all parts, the words of those that are not ok, and the goals."""
    gpu, model = report.part('gpu').figures, report.part('model').figures
    yield f'{gpu.get("name", "no GPU")}; {report.machine}; torch {report.versions.get("torch")}'
    if 'parameters' in model:
        yield f'{model["parameters"]:,} parameters, {model["layers"]} layers, random weights, fp16'
    rate = report.part('bandwidth').number('bytes_per_s')
    if rate is not None:
        yield f'{rate / 1e9:,.0f} GB/s read and written by a copy'
    rows = [_TITLES, *(_row(part) for part in report.parts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    for row in rows:
        yield '  '.join(
            f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True)
        ).rstrip()
    yield 'times: p50 / p95 in ms; memory: most in tensors / growth of what is in use'
    for part in report.parts:
        if part.state is not State.OK:
            yield f'{part.name}: {part.state.value}: {part.words}'
    for goal in report.goals:
        met = 'met' if goal.met else 'NOT met'
        yield f'{goal.part}, one expression: {goal.ratio:.2f} times {goal.what}: {met}'


def _row(part: PartReport) -> tuple[str, ...]:
    times = [_time(part, name) for name in _TIMES]
    lasted = (part.seconds, part.number('build_s'), part.number('load_s'))
    seconds = ['' if number is None else f'{number:.0f}' for number in lasted]
    return (part.name, part.state.value, *seconds, *times, _memory(part))


def _time(part: PartReport, name: str) -> str:
    figure = part.figures.get(name)
    if not isinstance(figure, dict):
        return ''
    return f'{figure["p50_ms"]:.2f} / {figure["p95_ms"]:.2f}'


def _memory(part: PartReport) -> str:
    peak, grown = part.number('peak_bytes'), part.number('grown_bytes')
    if peak is None or grown is None:
        return ''
    return f'{peak / 1e9:.2f} / {grown / 1e9:.2f}'
