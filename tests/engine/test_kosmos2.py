"""The decode loop on both runners: exact, independent of batching, and the same everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.boxes import decode_box
from kosmos_ros.model.network.weights import load_model
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.vocabulary import Vocabulary

EXPRESSIONS = [
    'the red ball',
    'ring',
    'the small green cone left of the large blue box',
    'a nearest thing',
]


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def torch_engine(engines: dict[str, Path]) -> Kosmos2Engine:
    with pytest.MonkeyPatch.context() as patch:
        # A GPU would compute in 16 bits.
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        engine = load_engine(engines['onnxruntime-fp32'], 'torch')
    assert isinstance(engine, Kosmos2Engine)
    (remark,) = engine.remarks
    assert 'not by PyTorch on a GPU' in remark
    return engine


def close(found: tuple[ScoredBox, ...], expected: tuple[ScoredBox, ...]) -> bool:
    return [one.box_in_image for one in found] == [
        one.box_in_image for one in expected
    ] and np.allclose([one.score for one in found], [one.score for one in expected], rtol=1e-3)


@torch.inference_mode()
def test_is_the_exact_joint_over_all_boxes(
    checkpoint: Path, torch_engine: Kosmos2Engine, image: np.ndarray
) -> None:
    """Against one full forward pass per top-left cell, without cache, prefix or search."""
    network, vocabulary = (
        load_model(checkpoint, torch.float32),
        Vocabulary.from_file(checkpoint / 'sentencepiece.bpe.model'),
    )
    embeds = network.vision(
        torch.from_numpy(pixels_from_image(image, network.config.vision.image_size))
    )
    prompt = prompts.image_prefix(vocabulary, 6) + prompts.refer_prompt(vocabulary, 'the red ball')
    first = vocabulary.first_location

    def cell_probabilities(ids: torch.Tensor) -> torch.Tensor:
        rows, length = ids.shape
        tokens = network.decoder.embed_tokens(ids).clone()
        tokens[:, 2:8] = embeds
        x = network.decoder.embed(tokens, torch.arange(length).expand(rows, -1))
        causal = torch.ones(rows, length, length, dtype=torch.bool).tril()
        start = torch.zeros(rows, dtype=torch.int64)
        hidden, _ = network.decoder(
            x, causal, start, network.empty_cache(1, 0), network.empty_cache(rows, length)
        )
        logits = network.text_model.lm_head(hidden[:, -1])
        return logits[:, first : first + 1024].double().softmax(-1)

    upper = cell_probabilities(torch.tensor([prompt]))[0]
    cells = torch.arange(1024)
    lower = torch.cat(
        [
            cell_probabilities(torch.tensor([[*prompt, first + int(cell)] for cell in part]))
            for part in cells.split(256)
        ]
    )
    joint = upper[:, None] * lower
    joint[
        (cells[None] // 32 < cells[:, None] // 32) | (cells[None] % 32 < cells[:, None] % 32)
    ] = 0
    best = joint.flatten().topk(5)
    expected = [decode_box(int(i) // 1024, int(i) % 1024) for i in best.indices]

    (found,) = torch_engine.locate(torch_engine.encode_image(image), ['the red ball'], top_k=5)
    assert [one.box_in_image for one in found] == expected
    assert [one.score for one in found] == pytest.approx(best.values.tolist(), rel=1e-3)


def test_rows_of_a_batch_do_not_see_each_other(
    torch_engine: Kosmos2Engine, image: np.ndarray
) -> None:
    context = torch_engine.encode_image(image)
    together = torch_engine.locate(context, EXPRESSIONS * 5, top_k=3)
    for expression, found in zip(EXPRESSIONS * 5, together, strict=True):
        (alone,) = torch_engine.locate(context, [expression], top_k=3)
        assert close(found, alone)


def test_runners_agree(
    engines: dict[str, Path], torch_engine: Kosmos2Engine, image: np.ndarray
) -> None:
    engine = load_engine(engines['onnxruntime-fp32'])
    found = engine.locate(engine.encode_image(image), EXPRESSIONS, top_k=4)
    expected = torch_engine.locate(torch_engine.encode_image(image), EXPRESSIONS, top_k=4)
    assert all(close(a, b) for a, b in zip(found, expected, strict=True))
    assert 'ONNX Runtime' in engine.name
    assert engine.remarks == ()
    assert 'PyTorch' in torch_engine.name
    assert 'cpu, float32' in torch_engine.name
    engine.close()


def test_image_matters(torch_engine: Kosmos2Engine, image: np.ndarray) -> None:
    (one,) = torch_engine.locate(torch_engine.encode_image(image), ['ball'])
    (other,) = torch_engine.locate(torch_engine.encode_image(np.zeros_like(image)), ['ball'])
    assert not close(one, other)


@pytest.mark.parametrize(
    'expression',
    [
        'the red mug',
        '',
        '  ',
        'the </phrase><object> ball',
        'ball ' * 2000,
        'ball ' * 90,
        'red\x00ball',
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_work(
    torch_engine: Kosmos2Engine, expression: str
) -> None:
    with pytest.raises(BadExpression):
        torch_engine.check_expression(expression)


def test_unknown_words_are_named(torch_engine: Kosmos2Engine) -> None:
    with pytest.raises(BadExpression, match="'mug'.*'laptop'"):
        torch_engine.check_expression('the red mug left of the laptop')


def test_numbers_that_are_none_are_an_engine_error(checkpoint: Path, image: np.ndarray) -> None:
    network, vocabulary = (
        load_model(checkpoint, torch.float32),
        Vocabulary.from_file(checkpoint / 'sentencepiece.bpe.model'),
    )
    network.decoder.layer_norm.weight.data[0] = float('nan')
    engine = Kosmos2Engine(
        'broken', TorchRunner(network, vocabulary.image_open), vocabulary, network.config, Limits()
    )
    with pytest.raises(EngineError, match='not numbers'):
        engine.locate(engine.encode_image(image), ['ball'])
