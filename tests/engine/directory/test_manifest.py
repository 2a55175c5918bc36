"""No damaged engine is ever loaded."""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sentencepiece import SentencePieceProcessor
import yaml

from kosmos_ros.console.main import main
from kosmos_ros.engine.directory import reference
from kosmos_ros.engine.directory.checksums import hashed_json
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.manifest import FILE_NAME, FORMAT, Manifest
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.runners import onnxruntime as onnxruntime_runner
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.network import weights

# What damages a directory that holds an engine, and how a person would call it.
Mutation = tuple[str, Callable[[Path], object]]
Files = dict[str, bytes]


@pytest.fixture
def engine(engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines['onnxruntime-fp32'], tmp_path / 'engine'))


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


@pytest.fixture
def loaders(engine: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was given anything to read."""
    called: list[str] = []

    def spy(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def read(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, read)

    spy(onnxruntime, 'InferenceSession')
    spy(SentencePieceProcessor, 'load_from_serialized_proto')
    spy(onnxruntime_runner, 'safe_open')
    spy(weights, 'safe_open')
    spy(reference, 'safe_open')
    spy(yaml, 'safe_load')
    real = json.loads

    def loads(text: str | bytes, **options: Any) -> Any:
        if text != (engine / FILE_NAME).read_bytes():
            called.append('json')
        return real(text, **options)

    monkeypatch.setattr(json, 'loads', loads)
    return called


def test_no_byte_of_a_mutated_engine_reaches_a_loader(
    engine: Path, engines: dict[str, Path], tmp_path: Path, loaders: list[str]
) -> None:
    files = content(engine)
    others = {
        title: content(directory)
        for title, directory in engines.items()
        if title != 'onnxruntime-fp32'
    }
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    mutations = dict(
        [
            *of_bytes(files, np.random.default_rng(0)),
            *of_names(files, elsewhere),
            *of_exchange(files, others),
            *of_manifests(files),
        ]
    )
    assert len(mutations) >= 500
    for title, mutate in mutations.items():
        restore(engine, files)
        mutate(engine)
        try:
            load_engine(engine, self_check='quick')
        except EngineFileError as error:
            refusal = str(error)
        else:
            pytest.fail(f'loaded: {title}')
        assert loaders == [], title
        assert str(engine) in refusal, title
        assert '\n' not in refusal, title
    # Whole again, it loads, by every one of them.
    restore(engine, files)
    load_engine(engine, self_check='quick').close()
    assert set(loaders) == {
        *('InferenceSession', 'safe_open', 'safe_load', 'json'),
        'load_from_serialized_proto',
    }


def test_files_that_nobody_reads_do_not_matter(engine: Path) -> None:
    """Plans lie there, and what a file manager leaves."""
    (engine / 'plans').mkdir()
    (engine / 'plans' / 'x.plan').write_bytes(b'x')
    (engine / '.DS_Store').write_bytes(b'x')
    load_engine(engine).close()


@pytest.mark.parametrize('kind', ['onnxruntime-fp32', 'tensorrt-fp16'])
def test_what_the_manifest_does_not_name_is_not_read(
    engines: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    engine = Path(shutil.copytree(engines[kind], tmp_path / 'engine'))
    whole = (engine / FILE_NAME).read_bytes()
    for name in Manifest.read(engine).files:
        (engine / FILE_NAME).write_bytes(
            rehashed(whole, lambda fields, name=name: fields['files'].pop(name))
        )
        with pytest.raises(EngineFileError, match=str(engine)):
            EngineDirectory.verified(engine)


def test_every_byte_of_the_manifest_counts(engine: Path) -> None:
    path = engine / FILE_NAME
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(flipped(whole, 8 * position + position % 8))
        with pytest.raises(EngineFileError):
            Manifest.read(engine)
    path.write_bytes(whole)
    assert Manifest.read(engine).runner == 'onnxruntime'


def test_refusals_name_the_file_and_what_is_wrong(engine: Path) -> None:
    files = content(engine)
    for name in Manifest.read(engine).files:
        for harm, match in (
            (flipped(files[name], 99), f'{name} does not have the content'),
            (files[name][:-1], f'{name} has .* bytes instead of {len(files[name])}'),
        ):
            (engine / name).write_bytes(harm)
            with pytest.raises(EngineFileError, match=match):
                load_engine(engine)
        (engine / name).unlink()
        with pytest.raises(EngineFileError, match=f'{name} is missing'):
            load_engine(engine)
        (engine / name).write_bytes(files[name])


def test_wrong_format_says_which_it_reads(engine: Path) -> None:
    fields = json.loads((engine / FILE_NAME).read_text())
    (engine / FILE_NAME).write_text(json.dumps({**fields, 'format': 1}))
    with pytest.raises(EngineFileError, match='format 1.*reads 4'):
        load_engine(engine)


@pytest.mark.parametrize('name', ['../outside', 'x' * 300])
def test_names_must_be_those_of_files_here(engine: Path, name: str) -> None:
    manifest = Manifest.read(engine)
    manifest.files[name] = manifest.files['config.json']
    manifest.write(engine)
    with pytest.raises(EngineFileError, match=str(engine)):
        load_engine(engine)


def test_what_cannot_be_read_is_refused(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user, or a disk that fails; tests may run as root, who reads all."""
    real = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == 'vision.onnx':
            raise PermissionError(13, 'Permission denied', str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, 'open', refuse)
    with pytest.raises(EngineFileError, match=r'vision\.onnx'):
        load_engine(engine)


@pytest.mark.parametrize(
    'make', [lambda path: None, Path.mkdir, Path.touch], ids=['nothing', 'empty', 'a file']
)
def test_what_is_no_engine(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / 'engine')
    with pytest.raises(EngineFileError, match='engine directory'):
        load_engine(tmp_path / 'engine')


def test_info_and_verify(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['engine', 'info', str(engine)]) == 0
    assert 'tiny: for any CPU, onnxruntime, fp32' in capsys.readouterr().out
    assert main(['engine', 'verify', str(engine)]) == 0
    # Files, loading, vision, two prefills, three steps, a text, an answer.
    assert capsys.readouterr().out.count(' ok: ') == 10
    with (engine / 'decoder.matmul.onnx').open('ab') as file:
        file.write(b'x')
    assert main(['engine', 'verify', str(engine)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert 'decoder.matmul.onnx' in captured.err
