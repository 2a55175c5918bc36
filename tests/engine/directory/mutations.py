"""Everything that may happen to the files of an engine."""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from kosmos_ros.engine.directory.checksums import hashed_json
from kosmos_ros.engine.directory.manifest import FILE_NAME, FORMAT

# What damages a directory that holds an engine, and how a person would call it.
Mutation = tuple[str, Callable[[Path], object]]
Files = dict[str, bytes]


def content(directory: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def restore(directory: Path, files: Files) -> None:
    """Undo whatever a mutation did."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)
    for name, whole in files.items():
        (directory / name).write_bytes(whole)


def rehashed(whole: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A manifest that somebody changed and gave a new hash of itself."""
    fields = json.loads(whole)
    del fields['sha256']
    change(fields)
    return hashed_json(fields)


def writing(name: str, whole: bytes) -> Callable[[Path], object]:
    return lambda engine: (engine / name).write_bytes(whole)


def flipped(whole: bytes, bit: int) -> bytes:
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def of_bytes(files: Files, rng: np.random.Generator) -> Iterator[Mutation]:
    """Bits that flip, files that end early or go on, blocks of zeros."""
    for name, whole in files.items():
        for bit in rng.choice(8 * len(whole), 32, replace=False).tolist():
            yield f'bit {bit} of {name}', writing(name, flipped(whole, bit))
        for size in {0, 1, len(whole) - 1, *rng.integers(2, len(whole) - 1, 8).tolist()}:
            yield f'{name} ends after {size}', writing(name, whole[:size])
        for extra in (b'\0', b'\n', whole):
            yield (
                f'{name} goes on with {len(extra)} of {extra[:1]!r}',
                writing(name, whole + extra),
            )
        for start in rng.choice(len(whole) - 16, 4, replace=False).tolist():
            # Not zeros: a block of them may stand there already.
            block = bytes(byte ^ 0xFF for byte in whole[start : start + 16])
            damaged = whole[:start] + block + whole[start + 16 :]
            yield f'16 bytes at {start} of {name}', writing(name, damaged)
        yield f'{name} backwards', writing(name, whole[::-1])


def of_names(files: Files, elsewhere: Path) -> Iterator[Mutation]:
    """Missing and renamed files, and what is no file of its own."""
    for name, whole in files.items():
        yield f'no {name}', lambda engine, name=name: (engine / name).unlink()
        for other in (f'{name}.bak', f' {name}', name.upper(), f'{name}.partial'):
            yield (
                f'{name} is called {other}',
                lambda engine, name=name, other=other: (engine / name).rename(engine / other),
            )
        if name != FILE_NAME:
            # The very same bytes, but whoever owns the link's target can exchange them.
            same = elsewhere / name
            same.write_bytes(whole)
            yield f'{name} links to the same', linking(name, same)
        yield f'{name} links to nothing', linking(name, elsewhere / 'nothing')
        yield f'{name} links to itself', linking(name, Path(name))
        yield f'{name} links to a device', linking(name, Path('/dev/null'))
        yield (
            f'{name} is a folder',
            lambda engine, name=name: ((engine / name).unlink(), (engine / name).mkdir()),
        )
    yield 'no directory', lambda engine: shutil.rmtree(engine)
    yield 'nothing in it', lambda engine: restore(engine, {})
    yield 'a manifest alone', lambda engine: restore(engine, {FILE_NAME: files[FILE_NAME]})


def linking(name: str, target: Path) -> Callable[[Path], object]:
    return lambda engine: ((engine / name).unlink(), (engine / name).symlink_to(target))


def of_exchange(files: Files, others: dict[str, Files]) -> Iterator[Mutation]:
    """Files that changed places, within an engine and between engines of the same model."""
    names = list(files)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            swapped = {**files, name: files[other], other: files[name]}
            yield f'{name} <-> {other}', lambda engine, all=swapped: restore(engine, all)
    for title, foreign in others.items():
        for name in files:
            if foreign.get(name, files[name]) != files[name]:
                yield f'{name} of {title}', writing(name, foreign[name])


def of_manifests(files: Files) -> Iterator[Mutation]:
    """Edited by hand: with the old hash of itself, and with a new one."""
    whole = files[FILE_NAME]
    fields = json.loads(whole)

    def manifest(title: str, new: object) -> Mutation:
        text = new if isinstance(new, bytes) else json.dumps(new).encode()
        return f'manifest: {title}', writing(FILE_NAME, text)

    for name in fields:
        yield manifest(f'{name} left out', {key: fields[key] for key in fields if key != name})
        for value in (None, 7, 'x', [], {}, True):
            yield manifest(f'{name} is {value!r}', {**fields, name: value})
    for title, value in (
        ('a number', 7),
        ('a list', [fields]),
        ('nothing', None),
        ('a text', 'x'),
        ('not JSON', b'{'),
        ('not UTF-8', b'\xff\xfe{}'),
        ('UTF-16', whole.decode().encode('utf-16')),
        ('a deep one', b'[' * 100_000),
        ('a long number', b'{"format": ' + b'9' * 5000 + b'}'),
        ('other spaces', json.dumps(fields).encode()),
        ('an end of line of Windows', whole.replace(b'\n', b'\r\n')),
        ('format twice', whole.replace(b'{', b'{\n  "format": 2,', 1)),
    ):
        yield manifest(title, value)

    def new_seal(title: str, change: Callable[[dict[str, Any]], object]) -> Mutation:
        return manifest(f'{title}, hashed again', rehashed(whole, change))

    for number in (0, 1, FORMAT + 1, -FORMAT, str(FORMAT), float('nan'), None, [FORMAT]):
        yield new_seal(f'format {number}', lambda all, number=number: all.update(format=number))
    for name in ('name', 'runner', 'precision', 'model', 'made_by', 'files'):
        yield new_seal(f'no {name}', lambda all, name=name: all.pop(name))
    yield new_seal('more', lambda all: all.update(more=1))
    for value in (None, [], 'x', 7, {'config.json': None}, {'config.json': {}}):
        yield new_seal(f'files {value}', lambda all, value=value: all.update(files=value))
    for name in ('../x', '/etc/passwd', 'a/b', './x', '..', '.', '', FILE_NAME, 'nul\0', 'gone'):
        yield new_seal(
            f'names {name!r}',
            lambda all, name=name: all['files'].update({name: all['files']['config.json']}),
        )
    for name in fields['files']:
        for entry in (
            {'bytes': len(files[name]) + 1},
            {'bytes': str(len(files[name]))},
            {'sha256': '0' * 64},
            {'sha256': fields['files'][name]['sha256'].upper()},
            {'sha256': None},
            {'mode': 7},
        ):
            yield new_seal(
                f'{name} has {entry}',
                lambda all, name=name, entry=entry: all['files'][name].update(entry),
            )
