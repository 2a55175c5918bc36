"""Is this engine whole, and does it answer here?"""

from collections.abc import Iterator
from pathlib import Path
import time

import numpy as np

from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.manifest import Manifest
from kosmos_ros.errors import EngineError


def verify_engine(directory: Path) -> Iterator[str]:
    """Check hashes, load, ask once; one line of report per step.

    :raises EngineFileError: when the directory is not whole or cannot be loaded.
    :raises EngineError: when the answer is not a probability and a box inside the image.
    """
    manifest = Manifest.read(directory)
    size = sum(entry.bytes for entry in manifest.files.values())
    yield f'files    ok: {len(manifest.files)} files, {size:,} bytes, all hashes match'
    begin = time.monotonic()
    engine = load_engine(directory)
    yield f'load     ok: {engine.name}, {time.monotonic() - begin:.2f} s'
    begin = time.monotonic()
    # A grey image with a red square: any Kosmos-2 has words for it, whatever it answers.
    image = np.full((240, 320, 3), 128, np.uint8)
    image[80:160, 120:200] = (200, 30, 30)
    ((located,),) = engine.locate(engine.encode_image(image), ['the red box'])
    box = located.box_in_image
    if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 and 0 <= located.score <= 1):
        raise EngineError(f'{directory} answers {located}, which is no box inside the image')
    yield (
        f'answer   ok: ({box.x0:.3f}, {box.y0:.3f}, {box.x1:.3f}, {box.y1:.3f}), '
        f'score {located.score:.3f}, {1000 * (time.monotonic() - begin):.0f} ms'
    )
    engine.close()
