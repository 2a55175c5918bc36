"""No damaged engine is ever loaded."""

import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from kosmos_ros.cli import main
from kosmos_ros.engine.build import build_engine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.manifest import FILE_NAME, Manifest
from kosmos_ros.errors import EngineFileError


@pytest.fixture
def engine(engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines['onnxruntime'], tmp_path / 'engine'))


def test_every_byte_of_the_manifest_counts(engine: Path) -> None:
    path = engine / FILE_NAME
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(EngineFileError):
            Manifest.read(engine)
    path.write_bytes(whole)
    assert Manifest.read(engine).runner == 'onnxruntime'


def test_mutated_files_are_refused_by_name(engine: Path) -> None:
    rng = np.random.default_rng(0)
    for name in Manifest.read(engine).files:
        path, whole = engine / name, (engine / name).read_bytes()
        for _ in range(20):
            damaged = bytearray(whole)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with pytest.raises(EngineFileError, match=name):
                load_engine(engine)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(EngineFileError, match='bytes instead of'):
            load_engine(engine)
        path.unlink()
        with pytest.raises(EngineFileError, match='missing'):
            load_engine(engine)
        path.write_bytes(whole)
    load_engine(engine)


def test_swapped_files_are_refused(engine: Path) -> None:
    (engine / 'vision.onnx').rename(engine / 'x')
    (engine / 'decoder.onnx').rename(engine / 'vision.onnx')
    (engine / 'x').rename(engine / 'decoder.onnx')
    with pytest.raises(EngineFileError):
        load_engine(engine)


def test_wrong_format_says_which_it_reads(engine: Path) -> None:
    content = json.loads((engine / FILE_NAME).read_text())
    (engine / FILE_NAME).write_text(json.dumps({**content, 'format': 2}))
    with pytest.raises(EngineFileError, match='format 2.*reads 1'):
        load_engine(engine)


def test_names_cannot_leave_the_directory(engine: Path) -> None:
    manifest = Manifest.read(engine)
    manifest.files['../outside'] = manifest.files['config.json']
    manifest.write(engine)
    with pytest.raises(EngineFileError, match='damaged'):
        load_engine(engine)


@pytest.mark.parametrize(
    'make', [lambda path: None, Path.mkdir, Path.touch], ids=['nothing', 'empty', 'a file']
)
def test_what_is_no_engine(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / 'engine')
    with pytest.raises(EngineFileError, match='engine directory'):
        load_engine(tmp_path / 'engine')


def test_runner_must_fit(engines: dict[str, Path]) -> None:
    with pytest.raises(EngineFileError, match='is an engine for torch, not for onnxruntime'):
        load_engine(engines['torch'], 'onnxruntime')
    load_engine(engines['torch'], 'torch')


def test_build_never_overwrites(checkpoint: Path, engine: Path) -> None:
    with pytest.raises(EngineFileError, match='exists already'):
        build_engine(checkpoint, engine, runner='torch', precision='fp32', name='x')


def test_build_that_stops_leaves_nothing_that_loads(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('kosmos_ros.engine.build.export_onnx', stop)
    with pytest.raises(KeyboardInterrupt):
        build_engine(
            checkpoint, tmp_path / 'out', runner='onnxruntime', precision='fp32', name='x'
        )
    assert not (tmp_path / 'out').exists()
    with pytest.raises(EngineFileError):
        load_engine(tmp_path / 'out.partial')


def test_info_and_verify(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['engine', 'info', str(engine)]) == 0
    assert 'tiny: for onnxruntime, fp32' in capsys.readouterr().out
    assert main(['engine', 'verify', str(engine)]) == 0
    assert capsys.readouterr().out.count(' ok: ') == 3
    with (engine / 'decoder.onnx').open('ab') as file:
        file.write(b'x')
    assert main(['engine', 'verify', str(engine)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert 'decoder.onnx' in captured.err
