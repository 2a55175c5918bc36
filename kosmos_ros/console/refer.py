"""`kosmos_ros refer`: boxes for expressions about one picture."""

from collections.abc import Sequence
import json
from pathlib import Path
import time

from kosmos_ros.console.engines import opened_engine
from kosmos_ros.console.pictures import output_path, read_picture, write_picture
from kosmos_ros.console.printing import corners_px, print_boxes
from kosmos_ros.drawing.annotate import Annotation
from kosmos_ros.drawing.poster import poster
from kosmos_ros.limits import Limits


def refer(
    path: Path,
    expressions: Sequence[str],
    *,
    max_results: int,
    engine: str | None,
    runner: str,
    out: Path | None,
) -> int:
    """Print a table and, last, one JSON line; draw the picture; return the exit code 0.

    :raises KosmosError: when something of it cannot be used.
    """
    limits = Limits()
    image = read_picture(path, limits)
    drawn = output_path(out, path, 'refer')
    with opened_engine(engine, runner, limits) as answering:
        for expression in expressions:
            answering.check_expression(expression)
        begin_s = time.monotonic()
        context = answering.encode_image(image)
        found = answering.locate(context, expressions, max_results)
        ms = 1e3 * (time.monotonic() - begin_s)
        name = answering.name
    answers = [
        (expression, tuple(one for one in boxes if one.box_in_image.clipped().is_valid))
        for expression, boxes in zip(expressions, found, strict=True)
    ]
    print_boxes('expression', answers, image)
    annotations = [
        Annotation(expression, one.box_in_image, one.score)
        for expression, boxes in answers
        for one in boxes
    ]
    write_picture(poster(image, annotations), drawn)
    summary = {
        'answers': [
            {
                'expression': expression,
                'boxes_px': [corners_px(one.box_in_image, image) for one in boxes],
                'scores': [round(one.score, 4) for one in boxes],
            }
            for expression, boxes in answers
        ],
        'ms': round(ms, 2),
        'engine': name,
        'image': str(drawn.resolve()),
    }
    print(json.dumps(summary), flush=True)
    return 0
