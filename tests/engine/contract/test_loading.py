"""What cannot be loaded is refused in one sentence."""

from pathlib import Path

import pytest

from kosmos_ros import EngineFileError, load_engine

from .engines import is_sentence


@pytest.mark.parametrize('runner', ['gpu', '', None, 'ONNXRUNTIME'])
def test_names_the_runners(runner: str) -> None:
    with pytest.raises(ValueError, match='auto, tensorrt, torch, onnxruntime') as caught:
        load_engine(runner=runner)
    assert is_sentence(caught.value)


@pytest.mark.parametrize('level', ['no', '', None, True])
def test_names_the_levels_of_the_self_check(level: str) -> None:
    with pytest.raises(ValueError, match='off, quick, full') as caught:
        load_engine(self_check=level)
    assert is_sentence(caught.value)


@pytest.mark.parametrize(
    ('name', 'cure'),
    [
        ('nobody', 'install the package'),
        ('nobody:0.5', 'install the package'),
        ('x' * 5000, 'install the package'),
        ('./nobody', 'correct the path'),
        (Path('nobody'), 'correct the path'),
        (Path('x' * 5000), 'correct the path'),
        (Path(__file__), 'correct the path'),
        (Path(__file__).parent, 'engine build'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_says_how_to_get_an_engine(name: str | Path, cure: str) -> None:
    with pytest.raises(EngineFileError, match=cure) as caught:
        load_engine(name)
    assert caught.type is EngineFileError
    assert is_sentence(caught.value)
