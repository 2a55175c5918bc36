"""Continuous detection: the standing expressions in new images, at a limited rate."""

from collections.abc import Callable
import time

from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.detections import Detection
from kosmos_ros.node.engine.engine_worker import EngineWorker, Localization
from kosmos_ros.node.parameters import Settings


class ContinuousDetection:
    """Gives background work to the engine when an image has come and the rate allows it.

    :param read_settings: returns the present settings.
    :param publish: publishes what was found, with the settings that it was asked by.
    """

    def __init__(
        self,
        engine_worker: EngineWorker,
        read_settings: Callable[[], Settings],
        publish: Callable[[Localization, list[Detection], Camera, Settings], None],
    ) -> None:
        self._engine_worker = engine_worker
        self._read_settings = read_settings
        self._publish = publish
        self._last_s: dict[str, float] = {}

    def on_image(self, camera: Camera) -> None:
        """Take note of a new image of a camera."""
        settings = self._read_settings()
        if not settings.expressions:
            return
        now_s = time.monotonic()
        if now_s - self._last_s.get(camera.name, -1e9) < 1 / settings.rate:
            return
        self._last_s[camera.name] = now_s
        self._engine_worker.worker.run_in_background(camera.name, lambda: self._detect(camera))

    def _detect(self, camera: Camera) -> None:
        # Read once: the labels are those that were asked for, whatever is set meanwhile.
        settings = self._read_settings()
        if not settings.expressions:
            return
        stamped = camera.newest(settings.max_image_age)
        found = self._engine_worker.locate(stamped, settings.expressions, top_k=1)
        detections = [
            Detection(expression, one)
            for expression, boxes in zip(settings.expressions, found.boxes, strict=True)
            for one in boxes[:1]
            if one.score >= settings.score_threshold
        ]
        self._publish(found, detections, camera, settings)
