"""Serialised engines of the double: bytes that name the graph, and refuse any change."""

from dataclasses import asdict, dataclass
import hashlib
import json

MAGIC = b'PLAN'
DIGEST = hashlib.sha256().digest_size

# Minimum, optimum and maximum.
Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """Content of a plan.

    :ivar version: of TensorRT.
    :ivar device: name of the GPU.
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
