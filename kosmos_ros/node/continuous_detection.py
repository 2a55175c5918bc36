"""Standing expressions: looked for in every new frame, as often as is wanted."""

from collections.abc import Callable
import time

from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.messages import Finding
from kosmos_ros.node.engine.engine_worker import EngineRoom, Sight
from kosmos_ros.node.parameters import Settings


class Standing:
    """Offers work to the engine's thread whenever a frame has come and the rate allows it.

    :param settings: gives the present settings.
    :param show: publishes what was found.
    """

    def __init__(
        self,
        room: EngineRoom,
        settings: Callable[[], Settings],
        show: Callable[[Sight, list[Finding], Camera], None],
    ) -> None:
        self._room = room
        self._settings = settings
        self._show = show
        self._last_s: dict[str, float] = {}

    def on_shot(self, camera: Camera) -> None:
        """A frame has come."""
        settings = self._settings()
        if not settings.expressions:
            return
        now_s = time.monotonic()
        if now_s - self._last_s.get(camera.name, -1e9) < 1 / settings.rate:
            return
        self._last_s[camera.name] = now_s
        self._room.worker.offer(camera.name, lambda: self._look(camera))

    def _look(self, camera: Camera) -> None:
        # Read once: the labels of the answer are those that were asked for, whatever is set
        # meanwhile.
        settings = self._settings()
        if not settings.expressions:
            return
        shot = camera.newest(settings.max_image_age)
        sight = self._room.look(shot, settings.expressions, top_k=1)
        findings = [
            Finding(expression, one)
            for expression, located in zip(settings.expressions, sight.located, strict=True)
            for one in located[:1]
            if one.score >= settings.score_threshold
        ]
        self._show(sight, findings, camera)
