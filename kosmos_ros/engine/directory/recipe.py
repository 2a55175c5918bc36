"""Recipes: for which machine, in which precision and for which shapes an engine is built.

One YAML file per target in ``engines/``; the one that an engine was built by lies in its
directory.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from kosmos_ros.engine.directory.packaged import packaged_engines
from kosmos_ros.errors import EngineFileError

PRECISIONS = {
    'tensorrt': ('fp32', 'fp16', 'bf16', 'int8'),
    'onnxruntime': ('fp32', 'int8'),
}
# Numbers of slots are multiples of this.
_STEP = 8
# Rows, tokens of each, and slots of each row's cache.
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One target.

    :param description: for which machines, for people.
    :param runner: the fastest that the target has: tensorrt or onnxruntime.
    :param precision: of weights and activations; int8: only of the decoder's weights.
    :param prefix: tokens of the shared prefix, P.
    :param prefill: shapes (rows, tokens, slots) in which prompts are read.
    :param decode: (rows, slots) in which single tokens are read.
    :param optimization_level: TensorRT's, 0 to 5.
    :param workspace_mib: scratch memory that TensorRT may use, MiB.
    """

    description: str
    runner: str
    precision: str
    prefix: int
    prefill: tuple[Shape, ...]
    decode: tuple[tuple[int, int], ...]
    optimization_level: int
    workspace_mib: int

    @classmethod
    def from_yaml(cls, path: Path) -> 'Recipe':
        """Read a recipe.

        :raises EngineFileError: naming what is missing or wrong.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            # YAML's own words take several lines.
            reason = ' '.join(str(error).split())
            raise EngineFileError(f'{path} cannot be read as a recipe: {reason}') from None
        if not isinstance(content, Mapping):
            raise EngineFileError(f'{path} is not a recipe: it must be a mapping')
        names = {field.name for field in fields(cls)}
        if odd := names ^ set(content):
            raise EngineFileError(
                f'{path} is not a recipe: {sorted(map(str, odd))} missing or unknown'
            )
        try:
            recipe = cls(**{name: _value(name, content[name]) for name in names})
            recipe._check()
        except (TypeError, ValueError) as error:
            raise EngineFileError(f'{path} is not a recipe: {error}') from None
        return recipe

    def write(self, path: Path) -> None:
        """Write the recipe as YAML."""
        content = asdict(self)
        content['prefill'] = [list(shape) for shape in self.prefill]
        content['decode'] = [list(shape) for shape in self.decode]
        text = yaml.safe_dump(content, sort_keys=False, width=95, default_flow_style=None)
        path.write_text(text, encoding='utf-8')

    def with_precision(self, precision: str) -> 'Recipe':
        """Return the same recipe in another precision.

        :raises EngineFileError: when the recipe's runner does not have it.
        """
        changed = replace(self, precision=precision)
        try:
            changed._check()
        except ValueError as error:
            raise EngineFileError(f'{precision} does not fit this recipe: {error}') from None
        return changed

    def within(self, positions: int) -> 'Recipe':
        """Return the same recipe for a model with this number of positions.

        Slots that no row could fill are cut off, and tokens that would not fit into the rest.

        :raises EngineFileError: when too little is left.
        """
        most = (positions - self.prefix) // _STEP * _STEP
        prefill = [
            (rows, tokens, slots) if slots <= most else (rows, min(tokens, most - _STEP), most)
            for rows, tokens, slots in self.prefill
        ]
        decode = [(rows, min(slots, most)) for rows, slots in self.decode]
        changed = replace(
            self, prefill=tuple(dict.fromkeys(prefill)), decode=tuple(dict.fromkeys(decode))
        )
        try:
            changed._check()
        except ValueError as error:
            raise EngineFileError(
                f'a model of {positions} positions does not fit this recipe: {error}'
            ) from None
        return changed

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes in which the decoder runs, prefill first."""
        return (*self.prefill, *((rows, 1, slots) for rows, slots in self.decode))

    @property
    def chunk(self) -> int:
        """Most tokens of a single row that are read at once."""
        return max(tokens for rows, tokens, _ in self.prefill if rows == 1)

    @property
    def capacity(self) -> int:
        """Most slots that a row has."""
        return max(slots for _, _, slots in self.shapes)

    @property
    def cached(self) -> int:
        """Slots of all rows together in the largest shape."""
        return max(rows * slots for rows, _, slots in self.shapes)

    @property
    def fresh(self) -> int:
        """Most tokens of all rows together that are read at once."""
        return max(rows * tokens for rows, tokens, _ in self.shapes)

    @property
    def activations(self) -> str:
        """Type of the activations: fp32, fp16 or bf16."""
        if self.precision == 'int8':
            return 'fp16' if self.runner == 'tensorrt' else 'fp32'
        return self.precision

    def _check(self) -> None:
        if self.runner not in PRECISIONS:
            raise ValueError(f'runner must be one of {", ".join(PRECISIONS)}')
        if self.precision not in PRECISIONS[self.runner]:
            known = ', '.join(PRECISIONS[self.runner])
            raise ValueError(f'the precision for {self.runner} must be one of {known}')
        if not 0 <= self.optimization_level <= 5:
            raise ValueError('optimization_level must be 0 to 5')
        if not self.decode or not self.prefill:
            raise ValueError('prefill and decode must not be empty')
        # Then every layer's part of a stacked cache begins at a multiple of 256 bytes, as TensorRT
        # wants its addresses.
        if self.prefix % _STEP or any(slots % _STEP for _, _, slots in self.shapes):
            raise ValueError(
                f'prefix and the slots in prefill and decode must be multiples of {_STEP}'
            )
        if any(not 0 < tokens < slots for _, tokens, slots in self.prefill):
            raise ValueError('every shape of prefill must have more slots than tokens')
        # Whatever fits no other shape is run by these, row by row.
        tokens = max(tokens for _, tokens, _ in self.prefill)
        if (1, tokens, self.capacity) not in self.prefill:
            raise ValueError(
                'one shape of prefill must have a single row, the most tokens, and the most slots '
                f'of prefill and decode: [1, {tokens}, {self.capacity}]'
            )
        if (1, self.capacity) not in self.decode:
            raise ValueError(
                'one shape of decode must have a single row and the most slots of prefill and '
                f'decode: [1, {self.capacity}]'
            )


def recipe_named(name: str) -> Recipe:
    """Read a recipe that comes with the package.

    :raises EngineFileError: when there is none of that name.
    """
    known = recipes()
    if name not in known:
        raise EngineFileError(f'there is no recipe {name!r}; there is {", ".join(known)}')
    return Recipe.from_yaml(known[name])


def recipes() -> dict[str, Path]:
    """Return the paths of the recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(packaged_engines().glob('*.yaml'))}


def _value(name: str, value: Any) -> Any:
    kinds = {'description': str, 'runner': str, 'precision': str}
    parts = {'prefill': ('rows', 'tokens', 'slots'), 'decode': ('rows', 'slots')}
    if name in parts:
        if not isinstance(value, list):
            raise ValueError(f'{name} must be a list, not {value!r}')
        for shape in value:
            if not isinstance(shape, list) or len(shape) != len(parts[name]):
                wanted = ', '.join(parts[name])
                raise ValueError(f'{name} must have lists [{wanted}], not {shape!r}')
        return tuple(tuple(_count(name, number) for number in shape) for shape in value)
    if name == 'optimization_level':
        return _count(name, value, least=0)
    if name not in kinds:
        return _count(name, value)
    if not isinstance(value, str):
        raise ValueError(f'{name} must be a text')
    return value


def _count(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f'{name} must have whole numbers of {least} or more, not {value!r}')
    return value
