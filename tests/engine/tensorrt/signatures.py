"""Signatures as pybind11 writes them into docstrings, and calls checked against them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import operator
import re

# One type under the names that different releases of pybind11 give it.
SYNONYMS = {
    'typing.SupportsInt': 'int',
    'typing.SupportsIndex': 'int',
    'typing.SupportsFloat': 'float',
    'typing_extensions.Buffer': 'buffer',
    'collections.abc.Buffer': 'buffer',
}
LIST = re.compile(r'(?:List|list|collections\.abc\.Sequence)\[(.+)\]')


@dataclass(frozen=True)
class Parameter:
    """One parameter; `type` is pybind11's word for it."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True)
class Signature:
    """One overload, without `self`."""

    parameters: tuple[Parameter, ...]
    returns: str

    @classmethod
    def parse(cls, line: str) -> 'Signature':
        """Read `name(self: Class, a: int = 0) -> Type`."""
        inside, returns = re.fullmatch(r'\w*\((.*)\) -> (.+)', line).groups()
        parameters = []
        for part in _split(inside):
            name, _, rest = part.partition(': ')
            kind, default, _ = rest.partition(' = ')
            if name not in ('self', '/', '*'):
                parameters.append(
                    Parameter(name, SYNONYMS.get(kind, kind) or 'object', bool(default))
                )
        return cls(tuple(parameters), SYNONYMS.get(returns, returns))


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no bracket."""
    parts, depth = [''], 0
    for character in text:
        depth += (character in '([<') - (character in ')]>')
        if character == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


Accepts = Callable[[str, object], bool]


def bind(
    name: str,
    overloads: Sequence[Signature],
    arguments: Sequence[object],
    keywords: Mapping[str, object],
    accepts: Accepts,
) -> list[object]:
    """Arguments in the order of the first overload that takes them.

    A default in the middle cannot be left out: no method that is imitated has one.

    :raises TypeError: none does.
    """
    for overload in overloads:
        names = [parameter.name for parameter in overload.parameters]
        given = dict(zip(names, arguments, strict=False))
        if len(arguments) > len(names) or set(given) & set(keywords):
            continue
        given.update(keywords)
        required = {parameter.name for parameter in overload.parameters if not parameter.optional}
        if not required <= set(given) <= set(names):
            continue
        if all(accepts(p.type, given[p.name]) for p in overload.parameters if p.name in given):
            return [given[each] for each in names if each in given]
    raise TypeError(f'{name}: no overload takes {tuple(arguments)} {dict(keywords)}: {overloads}')


def accepts_plain(kind: str, value: object) -> bool | None:
    """Whether a type that is not TensorRT's own takes a value, stricter than pybind11 where that
    would convert in silence; None for a type that is not known here.
    """
    if kind == 'int':
        return _is_int(value)
    if kind == 'float':
        return isinstance(value, float) or _is_int(value)
    if kind == 'buffer':
        return isinstance(value, bytes | bytearray | memoryview)
    if kind in ('Dims', 'tuple', 'list'):
        wanted = {'tuple': tuple, 'list': list}.get(kind, (tuple, list))
        return isinstance(value, wanted) and all(_is_int(each) for each in value)
    if kind in ('bool', 'str', 'bytes'):
        return isinstance(value, {'bool': bool, 'str': str, 'bytes': bytes}[kind])
    return None


def _is_int(value: object) -> bool:
    # Members of enumerations have an index too; NumPy's integers are welcome to pybind11.
    if isinstance(value, bool) or hasattr(type(value), '__members__'):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True
