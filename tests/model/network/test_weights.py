"""Loading of checkpoints as ``transformers`` writes them, and of damaged ones."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil

import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor
from transformers import Kosmos2ForConditionalGeneration

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.network.weights import load_model
from model.network.test_kosmos2 import CLOSE, Reader, full_logits, max_difference
from model.reference import CONFIGS, image_embeds, prompts, reference

pytestmark = pytest.mark.parity

HEAD = 'text_model.lm_head.weight'
EMBEDDING = 'text_model.model.embed_tokens.weight'
NORM = 'text_model.model.layer_norm.weight'
ONE_FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of one file."""
    path = tmp_path_factory.mktemp('checkpoint')
    reference('plain').save_pretrained(path)
    return path


@pytest.fixture
def checkpoint(written: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / 'checkpoint'))


def change(checkpoint: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Edit the weights of a checkpoint."""
    weights = load_file(checkpoint / ONE_FILE)
    edit(weights)
    save_file(weights, checkpoint / ONE_FILE)


def same_answers(directory: Path, theirs: Kosmos2ForConditionalGeneration) -> bool:
    ids, pixels = prompts(theirs, rows=2, length=24)
    ours = load_model(directory, torch.float32)
    logits = Reader(ours, rows=2, slots=24).read(ids, images=ours.vision(pixels))
    return max_difference(logits, full_logits(theirs, ids, image_embeds(theirs, pixels))) < CLOSE


@pytest.mark.parametrize('shard', ['10GB', '40KB'])
@pytest.mark.parametrize('name', CONFIGS)
def test_saved_by_transformers(tmp_path: Path, name: str, shard: str) -> None:
    theirs = reference(name)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / INDEX).is_file() == (shard == '40KB')
    assert same_answers(tmp_path, theirs)
    ours = load_model(tmp_path, torch.float32)
    mine = ours.state_dict()
    assert all(torch.equal(mine[key], value) for key, value in theirs.state_dict().items())
    tied = ours.text_model.lm_head.weight is ours.decoder.embed_tokens.weight
    assert tied == (name != 'untied head')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
def test_weights_get_the_requested_type(checkpoint: Path, dtype: torch.dtype) -> None:
    ours = load_model(checkpoint, dtype)
    assert {weight.dtype for weight in ours.parameters()} == {dtype}
    assert ours.decoder.positions.dtype == torch.float32
    assert ours.decoder.positions.device.type == 'cpu'
    assert not ours.training
    assert not any(weight.requires_grad for weight in ours.parameters())


def test_loaded_weights_do_not_change_with_the_file(checkpoint: Path) -> None:
    ours = load_model(checkpoint, torch.float32)
    before = ours.decoder.layer_norm.weight.clone()
    path = checkpoint / ONE_FILE
    with path.open('r+b') as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert torch.equal(ours.decoder.layer_norm.weight, before)


def test_head_that_repeats_the_embedding(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({HEAD: weights[EMBEDDING].clone()}))
    ours = load_model(checkpoint, torch.float32)
    assert ours.text_model.lm_head.weight is ours.decoder.embed_tokens.weight


def test_untied_head(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({HEAD: weights[EMBEDDING] + 1}))
    ours = load_model(checkpoint, torch.float32)
    assert torch.equal(ours.text_model.lm_head.weight, ours.decoder.embed_tokens.weight + 1)


@pytest.mark.parametrize(
    'name',
    [
        'text_model.model.embed_positions.weights',
        'embed_positions.weights',
        'vision_model.model.embeddings.position_ids',
    ],
)
def test_computed_tables_of_older_checkpoints_are_ignored(checkpoint: Path, name: str) -> None:
    change(checkpoint, lambda weights: weights.update({name: torch.arange(3)}))
    assert same_answers(checkpoint, reference('plain'))


def refusal(directory: Path) -> str:
    """Return the message with which a checkpoint is refused; it is one line."""
    with pytest.raises(EngineFileError) as caught:
        load_model(directory, torch.float32)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_missing_weight(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.pop(NORM))
    assert refusal(checkpoint).endswith(f'lacks {NORM}')


def test_missing_embedding(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.pop(EMBEDDING))
    assert refusal(checkpoint).endswith(f'lacks {EMBEDDING}')


def test_many_missing_weights(checkpoint: Path) -> None:
    def drop(weights: dict[str, Tensor]) -> None:
        for name in [name for name in weights if name.startswith('vision_model')]:
            del weights[name]

    change(checkpoint, drop)
    message = refusal(checkpoint)
    assert 'lacks vision_model.model.embeddings.class_embedding, ' in message
    assert message.endswith('more')
    assert message.count('vision_model') == 5


def test_unexpected_weight(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({'adapter.weight': torch.ones(2)}))
    assert refusal(checkpoint).endswith('holds unexpected adapter.weight')


def test_wrong_shape(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({NORM: torch.ones(31)}))
    message = refusal(checkpoint)
    assert NORM in message
    assert 'has the shape [31]; config.json asks for [32]' in message


def test_wrong_shape_of_the_head(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({HEAD: torch.ones(5, 32)}))
    assert f'{HEAD} in ' in refusal(checkpoint)


def test_integer_weights_are_refused(checkpoint: Path) -> None:
    change(checkpoint, lambda weights: weights.update({NORM: torch.ones(32, dtype=torch.int64)}))
    assert 'torch.int64, not floating-point' in refusal(checkpoint)


def test_config_of_another_size(checkpoint: Path) -> None:
    config = json.loads((checkpoint / 'config.json').read_text())
    config['text_config']['layers'] = 3
    (checkpoint / 'config.json').write_text(json.dumps(config))
    assert 'lacks text_model.model.layers.2.' in refusal(checkpoint)


def test_no_config(checkpoint: Path) -> None:
    (checkpoint / 'config.json').unlink()
    assert 'config.json cannot be read' in refusal(checkpoint)


@pytest.mark.parametrize('length', [0, 4, 100, 20_000])
def test_truncated_file(checkpoint: Path, length: int) -> None:
    path = checkpoint / ONE_FILE
    path.write_bytes(path.read_bytes()[:length])
    assert f'{ONE_FILE} cannot be read as safetensors' in refusal(checkpoint)


def test_a_directory_without_weights_is_refused(checkpoint: Path) -> None:
    (checkpoint / ONE_FILE).unlink()
    assert f'holds neither {ONE_FILE} nor {INDEX}' in refusal(checkpoint)


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'pytorch_model.bin.index.json'])
def test_pickles_are_never_read(checkpoint: Path, name: str) -> None:
    (checkpoint / ONE_FILE).unlink()
    (checkpoint / name).write_bytes(b'cos\nsystem\n')
    assert 'convert them to safetensors' in refusal(checkpoint)


def write_index(checkpoint: Path, content: object) -> None:
    """Convert the checkpoint to one shard with this index."""
    (checkpoint / ONE_FILE).rename(checkpoint / 'part.safetensors')
    (checkpoint / INDEX).write_text(json.dumps(content))


@pytest.mark.parametrize(
    'shard',
    [
        *('../part.safetensors', '/etc/passwd', 'sub/part.safetensors', '..', '', 'part.bin', 7),
        *('C:\\part.safetensors', 'part.safetensors\n', '.part.safetensors', None, ['a']),
    ],
)
def test_shards_must_be_in_the_directory_of_their_index(checkpoint: Path, shard: object) -> None:
    write_index(checkpoint, {'weight_map': {NORM: shard}})
    assert 'not a safetensors file of the same directory' in refusal(checkpoint)


@pytest.mark.parametrize('content', [[], {}, {'weight_map': []}, {'weight_map': None}, 7])
def test_index_without_a_map(checkpoint: Path, content: object) -> None:
    write_index(checkpoint, content)
    assert "has no 'weight_map'" in refusal(checkpoint)


@pytest.mark.parametrize('content', [b'', b'{', b'\xff\xfe', b'[' * 100_000])
def test_damaged_index(checkpoint: Path, content: bytes) -> None:
    write_index(checkpoint, {})
    (checkpoint / INDEX).write_bytes(content)
    assert f'{INDEX} cannot be read' in refusal(checkpoint)


def test_missing_shard(checkpoint: Path) -> None:
    write_index(checkpoint, {'weight_map': {NORM: 'gone.safetensors'}})
    assert 'gone.safetensors cannot be read' in refusal(checkpoint)


def test_shard_without_the_weight(checkpoint: Path) -> None:
    write_index(checkpoint, {'weight_map': {'adapter.weight': 'part.safetensors'}})
    assert 'does not hold adapter.weight' in refusal(checkpoint)


def test_index_that_leaves_weights_out(checkpoint: Path) -> None:
    write_index(checkpoint, {'weight_map': {NORM: 'part.safetensors'}})
    assert 'lacks image_to_text_projection.dense.bias, ' in refusal(checkpoint)
