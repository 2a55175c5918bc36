"""A strict double of what runs plans in the module `tensorrt`, made from the surface of a real
release; plans themselves are built by NVIDIA's code in other tests, or by `plan.py` here.

Whatever the release does not have is an AttributeError, whatever its signatures refuse is a
TypeError, and whatever the models do not imitate is a NotImplementedError: no call works in
silence.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from .faces import Buffer, Face, Kind, Member, Tuple, unwrap
from .graph import ITEM_SIZES
from .memory import Memory, Recording
from .model import HostMemory, Logger, Model, Shape
from .running import Runtime
from .signatures import LIST, Signature, accepts_plain, bind

# Classes that a program makes itself.  The others come out of calls.
MODELS = {'Logger': Logger, 'Runtime': Runtime}
# Classes that a program derives its own from; the double only calls them.
CALLBACKS = {'ILogger', 'IProgressMonitor'}
# What a test may set on the module.
CONTROLS = {'built', 'device_name', 'recording'}


class Call(NamedTuple):
    """One call that the surface took; a property that was set has a name that ends in `=`."""

    name: str
    arguments: tuple[object, ...]
    keywords: dict[str, object]


BASES = {'Dims': (Tuple,), 'IHostMemory': (Buffer,)}


class Double(ModuleType):
    """The module.  What is not TensorRT's serves the tests.

    :ivar built: names of the plans that were built.
    :ivar calls: every call that a program made.
    :ivar device_name: of the GPU that plans are made for.
    :ivar memory: of the pretended device.
    :ivar recording: the capture under way.
    """

    def __init__(self, surface: Mapping[str, Any]) -> None:
        super().__init__('tensorrt')
        # torch looks for it when it asks what can be imported.
        self.__spec__ = ModuleSpec('tensorrt', None)
        names = vars(self)
        names |= {'surface': surface, 'calls': [], 'failures': [], 'memory': Memory()}
        names |= {'device_name': 'Double', 'recording': None, 'kinds': {}, 'built': []}
        used = set(surface['classes']) | set(surface['functions']) | set(surface['constants'])
        assert not used & (set(names) | set(vars(Double))), 'the surface hides what is the double'
        for name in surface['classes']:
            self._kind(name)
        names |= {name: kind for name, kind in self.kinds.items() if '.' not in name}
        names |= {name: self._constant(path) for name, path in surface['constants'].items()}
        for name, lines in surface['functions'].items():
            names[name] = self._method(name, lines)
        names['__version__'] = surface['version']

    def __setattr__(self, name: str, value: object) -> None:
        if name not in CONTROLS and not name.startswith('__'):
            raise AttributeError(f'tensorrt has no attribute {name!r}')
        super().__setattr__(name, value)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return 'IRuntimeCache' in self.surface['classes']

    def register(self, tensor: torch.Tensor) -> None:
        """Let the double read and write a tensor while its storage lives."""
        self.memory.register(tensor)

    def fail_next(self, name: str) -> None:
        """Let the next call of a method fail as it fails in TensorRT.

        :param name: such as `IExecutionContext.execute_async_v3`, or `Runtime.__init__`.
        """
        owner, _, method = name.rpartition('.')
        (signature, *_) = self._signatures(self._described(owner)['methods'][method])
        can_fail = signature.returns in ('bool', *self.kinds) or method == '__init__'
        if not can_fail:
            raise ValueError(f'{name} has no way to fail: it gives {signature.returns}')
        self.failures.append(name)

    @contextmanager
    def record(self) -> Iterator[Recording]:
        """Hold executions back, as the capture of a CUDA graph does."""
        assert self.recording is None, 'a capture within a capture'
        self.recording = Recording()
        try:
            yield self.recording
        finally:
            self.recording = None

    def wrap(self, value: object) -> Any:
        """What a program sees of a model's result."""
        if isinstance(value, list):
            return [self.wrap(each) for each in value]
        if isinstance(value, Model):
            if value.face is None:
                value.face = self._face(value.surface, value)
            return value.face
        if isinstance(value, Shape):
            return self._face('Dims', value)
        if isinstance(value, HostMemory):
            face = self.kinds['IHostMemory'].__new__(self.kinds['IHostMemory'], 'B', value.data)
            object.__setattr__(face, '_model', value)
            return face
        return value

    def perform(
        self,
        name: str,
        lines: Sequence[str],
        face: Face | None,
        arguments: tuple[object, ...],
        keywords: dict[str, object],
    ) -> Any:
        """Check a call, keep it, and let the model do it."""
        overloads = self._signatures(lines)
        values = bind(name, overloads, arguments, keywords, self.accepts)
        self.calls.append(Call(name, arguments, keywords))
        model = getattr(face, '_model', None)
        act = getattr(model, name.rpartition('.')[2], None)
        if act is None:
            raise NotImplementedError(f'the double does not imitate {name}')
        if name in self.failures:
            self.failures.remove(name)
            model.complain(f'{name} fails because a test wants it to')
            return {'bool': False, 'int': -1}.get(overloads[0].returns)
        return self.wrap(act(*(unwrap(value) for value in values)))

    def accepts(self, kind: str, value: object) -> bool:
        """Whether a parameter of this type takes a value."""
        if kind in self.kinds and isinstance(value, self.kinds[kind]):
            return True
        if kind == 'buffer' and isinstance(value, self.kinds['IHostMemory']):
            return True
        if match := LIST.fullmatch(kind):
            items = isinstance(value, list | tuple)
            return items and all(self.accepts(match[1], each) for each in value)
        plain = accepts_plain(kind, value)
        return kind not in self.kinds if plain is None else plain

    def _described(self, kind: str) -> dict[str, Any]:
        return self.surface['classes'][kind]

    @staticmethod
    def _signatures(lines: Sequence[str]) -> list[Signature]:
        return [Signature.parse(line) for line in lines]

    def _constant(self, path: str) -> Member:
        kind, _, name = path.rpartition('.')
        return getattr(self._kind(kind), name)

    def _face(self, kind: str, model: object) -> Face:
        face = object.__new__(self.kinds[kind])
        object.__setattr__(face, '_model', model)
        return face

    def _kind(self, name: str) -> type:
        """The class of this name, made with those that it needs."""
        if name in self.kinds:
            return self.kinds[name]
        described = self._described(name)
        members: dict[str, Any] = {'__module__': 'tensorrt', '__qualname__': name}
        if 'enum' in described:
            return self._enumeration(name, described, members)
        bases = tuple(self._kind(base) for base in described['bases'])
        for each, lines in described['methods'].items():
            members[each] = self._method(f'{name}.{each}', lines)
        for each, shown in described['properties'].items():
            members[each] = self._property(f'{name}.{each}', shown)
        members['__init__'] = self._initialiser(name, described['methods'].get('__init__'))
        members |= {each: self._kind(path) for each, path in described['classes'].items()}
        members |= {each: self._constant(path) for each, path in described['constants'].items()}
        kind = Kind(name.rpartition('.')[2], bases or BASES.get(name, (Face,)), members)
        kind._sealed = True
        self.kinds[name] = kind
        return kind

    def _enumeration(
        self, name: str, described: Mapping[str, Any], members: dict[str, Any]
    ) -> type:
        members['name'] = property(lambda member: member._model[0])
        members['value'] = property(lambda member: member._model[1])
        for each in described['properties']:
            members[each] = self._property(f'{name}.{each}', {'type': '', 'writable': False})
        if name == 'DataType':
            members['itemsize'] = property(lambda member: ITEM_SIZES[member.name])
        kind = Kind(name.rpartition('.')[2], (Member,), members)
        self.kinds[name] = kind
        kind.__members__ = {
            each: self._face(name, (each, value)) for each, value in described['enum'].items()
        }
        for each, member in kind.__members__.items():
            setattr(kind, each, member)
        kind._sealed = True
        return kind

    def _method(self, name: str, lines: Sequence[str]) -> Any:
        double = self
        if '.' not in name:
            return lambda *args, **keywords: double.perform(name, lines, None, args, keywords)
        return lambda face, *args, **keywords: double.perform(name, lines, face, args, keywords)

    def _initialiser(self, name: str, lines: Sequence[str] | None) -> Any:
        double = self

        def initialise(face: Face, *arguments: object, **keywords: object) -> None:
            if lines is None:
                raise TypeError(f'{name}: No constructor defined!')
            label = f'{name}.__init__'
            values = bind(label, self._signatures(lines), arguments, keywords, double.accepts)
            double.calls.append(Call(label, arguments, keywords))
            if name not in MODELS and name not in CALLBACKS:
                raise NotImplementedError(f'the double does not imitate {label}')
            if label in double.failures:
                double.failures.remove(label)
                raise TypeError('pybind11::init(): factory function returned nullptr')
            make = MODELS.get(name)
            model = make(double, *(unwrap(value) for value in values)) if make else None
            object.__setattr__(face, '_model', model)

        return initialise

    def _property(self, name: str, shown: Mapping[str, Any]) -> property:
        double, short = self, name.rpartition('.')[2]

        def model_of(face: Face) -> Any:
            if not hasattr(face._model, short):
                raise NotImplementedError(f'the double does not imitate {name}')
            return face._model

        def read(face: Face) -> Any:
            return double.wrap(getattr(model_of(face), short))

        def write(face: Face, value: object) -> None:
            # Pointers may be null: that takes a monitor away again.
            is_null = value is None and shown['type'] in CALLBACKS
            if not is_null and not double.accepts(shown['type'], value):
                raise TypeError(f'{name} is of {shown["type"]}, not {value!r}')
            double.calls.append(Call(f'{name}=', (value,), {}))
            setattr(model_of(face), short, unwrap(value))

        return property(read, write if shown['writable'] else None)


def make(surface: Path) -> Double:
    """A double without any history."""
    return Double(json.loads(surface.read_text()))
