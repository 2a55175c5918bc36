"""Serialised engines of the double: bytes that name the graph, and refuse any change; and what
stands in for the builder, which needs a GPU for every release but those for RTX.
"""

from dataclasses import asdict, dataclass
import hashlib
import json
from typing import TYPE_CHECKING, Any

from .graph import Dimensions, Graph

if TYPE_CHECKING:
    from .double import Double

MAGIC = b'PLAN'
DIGEST = hashlib.sha256().digest_size

# Minimum, optimum and maximum.
Range = tuple[Dimensions, Dimensions, Dimensions]


@dataclass(frozen=True)
class Plan:
    """Content of a plan.

    :ivar version: of TensorRT.
    :ivar device: name of the GPU; '' for RTX: any.
    :ivar path: ONNX file.
    :ivar sha256: of that file and its external data.
    :ivar profiles: shapes of every input.
    """

    version: str
    device: str
    path: str
    sha256: str
    profiles: list[dict[str, Range]]

    def to_bytes(self) -> bytes:
        """As a file holds it."""
        body = json.dumps(asdict(self), sort_keys=True).encode()
        return MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, data: bytes) -> 'Plan':
        """Read it back.

        :raises ValueError: it is no plan, or not what was written.
        """
        body = data[len(MAGIC) + DIGEST :]
        if data[: len(MAGIC) + DIGEST] != MAGIC + hashlib.sha256(body).digest():
            raise ValueError('the plan is damaged')
        content = json.loads(body)
        content['profiles'] = [
            {name: tuple(tuple(shape) for shape in shapes) for name, shapes in profile.items()}
            for profile in content['profiles']
        ]
        return cls(**content)


def build_plan(trt: 'Double', request: Any, timing_cache: Any, report: Any) -> memoryview:
    """Stand in for the function of this name in our builder."""
    report(f'building {request.name}: Building engine')
    report(f'building {request.name}: Building engine, 100 %')
    trt.built.append(request.name)
    wanted = [
        tuple(request.inputs(shape) for shape in (one.least, one.best, one.most))
        for one in request.profiles
    ]
    return memoryview(plan_of(trt, request.graph, wanted or [({}, {}, {})]))


def plan_of(trt: 'Double', path: Any, profiles: list[tuple[dict[str, Dimensions], ...]]) -> bytes:
    """Return the plan of an ONNX file.

    :param profiles: least, best and most shapes of the dynamic inputs.
    """
    graph = Graph(path)
    device = '' if trt.is_rtx else trt.device_name
    ranges = [
        {
            name: tuple(shapes.get(name, port.shape) for shapes in profile)
            for name, port in graph.inputs.items()
        }
        for profile in profiles
    ]
    return Plan(trt.__version__, device, str(path), graph.sha256, ranges).to_bytes()
