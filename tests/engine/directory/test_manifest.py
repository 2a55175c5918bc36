"""No damaged engine is ever loaded."""

from collections.abc import Callable
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
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.manifest import FILE_NAME, Manifest
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.runners import onnxruntime as onnxruntime_runner
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.network import weights

from .mutations import (
    content,
    flipped,
    of_bytes,
    of_exchange,
    of_manifests,
    of_names,
    rehashed,
    restore,
)


@pytest.fixture
def engine(engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines['onnxruntime-fp32'], tmp_path / 'engine'))


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
