"""Recipes: for which machine, in which precision and for which shapes an engine is built.

One YAML file per target in ``engines/``; the one that an engine was built by lies in its
directory.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from kosmos_ros.engine.places import engines_folder
from kosmos_ros.errors import EngineFileError

PRECISIONS = {
    'tensorrt': ('fp32', 'fp16', 'bf16', 'int8'),
    'onnxruntime': ('fp32', 'int8'),
}
Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One target.

    :param description: for which machines, for people.
    :param runner: the fastest that the target has: tensorrt or onnxruntime.
    :param precision: of weights and activations; int8: only of the decoder's weights.
    :param slots: tokens of a row's own cache, S.
    :param prefix: tokens of the shared prefix, P.
    :param prefill: shapes (rows, tokens) in which prompts are read.
    :param decode: numbers of rows in which single tokens are read.
    :param optimization_level: TensorRT's, 0 to 5.
    :param workspace_mib: scratch memory that TensorRT may use, MiB.
    """

    description: str
    runner: str
    precision: str
    slots: int
    prefix: int
    prefill: tuple[Shape, ...]
    decode: tuple[int, ...]
    optimization_level: int
    workspace_mib: int

    @classmethod
    def from_yaml(cls, path: Path) -> 'Recipe':
        """Read a recipe.

        :raises EngineFileError: naming what is missing or senseless.
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
        """Write it as YAML."""
        content = asdict(self)
        content['prefill'] = [list(shape) for shape in self.prefill]
        content['decode'] = list(self.decode)
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=95), encoding='utf-8')

    def with_precision(self, precision: str) -> 'Recipe':
        """The same in another precision.

        :raises EngineFileError: when the recipe's runner does not have it.
        """
        changed = replace(self, precision=precision)
        try:
            changed._check()
        except ValueError as error:
            raise EngineFileError(f'{precision} does not fit this recipe: {error}') from None
        return changed

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes (rows, tokens) in which the decoder runs, prefill first."""
        return (*self.prefill, *((rows, 1) for rows in self.decode))

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
        # Then every layer's part of a stacked cache begins at a multiple of 256 bytes, as TensorRT
        # wants its addresses.
        if self.slots % 8 or self.prefix % 8:
            raise ValueError('slots and prefix must be multiples of 8')
        if not self.decode or not self.prefill or self.prefill[0][0] != 1:
            raise ValueError('prefill and decode must not be empty, and prefill begin with 1 row')
        if self.prefill[0][1] != max(tokens for _, tokens in self.prefill):
            raise ValueError('the first shape of prefill must have the most tokens')
        if self.slots <= self.prefill[0][1]:
            raise ValueError('slots must be more than the tokens of every prefill')


def recipe_named(name: str) -> Recipe:
    """A recipe that comes with the package.

    :raises EngineFileError: when there is none of that name.
    """
    known = recipes()
    if name not in known:
        raise EngineFileError(f'there is no recipe {name!r}; there is {", ".join(known)}')
    return Recipe.from_yaml(known[name])


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(engines_folder().glob('*.yaml'))}


def _value(name: str, value: Any) -> Any:
    kinds = {'description': str, 'runner': str, 'precision': str}
    if name in ('prefill', 'decode') and not isinstance(value, list):
        raise ValueError(f'{name} must be a list, not {value!r}')
    if name == 'prefill':
        for shape in value:
            if not isinstance(shape, list) or len(shape) != 2:
                raise ValueError(f'{name} must have pairs [rows, tokens], not {shape!r}')
        return tuple((_count(name, rows), _count(name, tokens)) for rows, tokens in value)
    if name == 'decode':
        return tuple(_count(name, rows) for rows in value)
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
