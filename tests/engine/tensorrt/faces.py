"""What a program sees of TensorRT: objects with the attributes of the surface and no others."""

import array
from typing import Any


class Kind(type):
    """Class of the double's classes: they keep the attributes that they were made with."""

    def __setattr__(cls, name: str, value: object) -> None:
        if '_sealed' in vars(cls):
            raise AttributeError(f'{cls.__qualname__}.{name} cannot be set')
        super().__setattr__(name, value)

    def __call__(cls, *arguments: object, **keywords: object) -> Any:
        face = super().__call__(*arguments, **keywords)
        if '_model' not in vars(face):
            raise TypeError(f'{cls.__qualname__} does not call the __init__ that it overrides')
        return face


class Face(metaclass=Kind):
    """What a program sees of an object of TensorRT.  What it does is up to its model."""

    def __setattr__(self, name: str, value: object) -> None:
        own = type(self)
        if name == '__class__':
            # Programs turn layers into what they are by assigning their class.
            assert value.__qualname__ == self._model.native, f'{own} is no {value}'
        elif '_sealed' in vars(own) and not isinstance(getattr(own, name, None), property):
            raise AttributeError(f'{own.__qualname__} has no attribute {name!r}')
        object.__setattr__(self, name, value)


class Member(Face):
    """Member of an enumeration.  As in the bindings, it equals no number and has no order."""

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __repr__(self) -> str:
        return f'{type(self).__name__}.{self.name}'


class Tuple(Face):
    """Dims: a sequence, but no tuple."""

    __hash__ = None

    def __len__(self) -> int:
        return len(self._model)

    def __getitem__(self, index: int | slice) -> Any:
        return self._model[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | list):
            raise TypeError(f'Dims can be compared with tuples and lists, not with {other!r}')
        return self._model == tuple(other)

    def __repr__(self) -> str:
        return repr(self._model)


class Buffer(Face, array.array):
    """IHostMemory: a buffer, and nothing else that is usual of sequences."""

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, '__class__')
        if not name.startswith('_') and not isinstance(vars(own).get(name), property):
            raise AttributeError(f'IHostMemory has no attribute {name!r}')
        return super().__getattribute__(name)

    def _refuse(self, *arguments: object) -> Any:
        raise TypeError('IHostMemory can only be read as a buffer')

    __len__ = __getitem__ = __setitem__ = __iter__ = __contains__ = __add__ = __mul__ = _refuse
    __eq__ = __ne__ = __bool__ = _refuse
    __hash__ = None


def unwrap(value: object) -> Any:
    """What a model sees of an argument."""
    if isinstance(value, Buffer):
        return value._model.data
    if isinstance(value, Face) and not isinstance(value, Member):
        # Objects of a program's own classes are called by their methods.
        return value if value._model is None else value._model
    return value
