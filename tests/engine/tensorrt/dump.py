"""Writes down what a TensorRT bindings wheel exposes.  Runs in a process of its own, because the
bindings can be imported only with stand-ins for their libraries on LD_LIBRARY_PATH.

    python dump.py BINDINGS NATIVE_MODULE SURFACE_JSON STUBS_DIRECTORY
"""

import importlib
import inspect
import json
from pathlib import Path
import re
import sys
from types import ModuleType
from typing import Any

from pybind11_stubgen import main as stubgen

SIGNATURE = re.compile(r'(?:\d+\. )?(\w*\(.*\) -> .+)')


def signatures(function: Any) -> list[str]:
    """Lines of a docstring that pybind11 wrote, one for each overload."""
    lines = (getattr(function, '__doc__', None) or '').splitlines()
    found = (SIGNATURE.fullmatch(line.strip()) for line in lines)
    return [match[1].replace(PREFIX, '') for match in found if match]


def is_enum(kind: object) -> bool:
    """Whether pybind11 made this class for an enumeration."""
    return inspect.isclass(kind) and hasattr(kind, '__members__')


def constants(members: dict[str, Any]) -> dict[str, str]:
    """Members of enumerations that are also reached by another name."""
    return {
        name: f'{type(value).__qualname__}.{value.name}'
        for name, value in members.items()
        if is_enum(type(value))
    }


def describe(kind: type) -> dict[str, Any]:
    """One class without what Python itself gives every class."""
    members = dict(vars(kind))
    shown: dict[str, Any] = {
        'bases': [base.__qualname__ for base in kind.__bases__ if f'{base.__module__}.' == PREFIX],
        'methods': {},
        'properties': {},
        'classes': {
            name: value.__qualname__ for name, value in members.items() if inspect.isclass(value)
        },
    }
    if is_enum(kind):
        shown['enum'] = {name: int(value) for name, value in kind.__members__.items()}
        members = {name: value for name, value in members.items() if name not in shown['enum']}
    shown['constants'] = constants(members)
    for name, value in members.items():
        if isinstance(value, property):
            if name.startswith('_') or (is_enum(kind) and name in ('name', 'value')):
                continue
            lines = signatures(value.fget)
            shown['properties'][name] = {
                'type': lines[0].rpartition(' -> ')[2] if lines else '',
                'writable': value.fset is not None,
            }
        elif inspect.isroutine(value) and (name == '__init__' or not name.startswith('_')):
            lines = signatures(value)
            # A class without a signature here cannot be constructed from Python.
            if lines or name != '__init__':
                shown['methods'][name] = lines
    return shown


def surface(bindings: ModuleType, native: ModuleType) -> dict[str, Any]:
    """Every public name of the bindings but the few functions that are written in Python."""
    public = {name: value for name, value in vars(native).items() if not name.startswith('_')}
    kinds = [value for value in public.values() if inspect.isclass(value)]
    nested = [
        value
        for kind in kinds
        for value in vars(kind).values()
        if inspect.isclass(value) and value.__qualname__.count('.') == 1
    ]
    return {
        'version': bindings.__version__,
        'classes': {kind.__qualname__: describe(kind) for kind in [*kinds, *nested]},
        'functions': {
            name: signatures(value) for name, value in public.items() if inspect.isroutine(value)
        },
        'constants': constants(public),
    }


if __name__ == '__main__':
    bindings, name, out, stubs = sys.argv[1:]
    PREFIX = f'{name}.'
    sys.path.insert(0, bindings)
    module, native = (importlib.import_module(one) for one in (name.partition('.')[0], name))
    Path(out).write_text(json.dumps(surface(module, native), indent=1))
    stubgen([name, '--output-dir', stubs, '--ignore-all-errors'])
