"""Recipes: those that come along fit the released model, and no senseless one is taken."""

from dataclasses import replace
from pathlib import Path
import re
from typing import Any

import pytest
import yaml

from kosmos_ros.engine.answering.locate import _CELLS_PER_STEP, _MAX_ROWS
from kosmos_ros.engine.directory.recipe import PRECISIONS, Recipe, recipe_named, recipes
from kosmos_ros.errors import EngineFileError
from kosmos_ros.limits import Limits
from kosmos_ros.model.config import Kosmos2Config

NAMES = ('cpu', 'desktop', 'jetson-orin', 'jetson-thor', 'rtx')


@pytest.fixture
def fields() -> dict[str, Any]:
    """As YAML gives them."""
    return {
        'description': 'a machine',
        'runner': 'onnxruntime',
        'precision': 'fp32',
        'prefix': 72,
        'prefill': [[1, 72, 80], [4, 32, 80], [1, 72, 512]],
        'decode': [[1, 80], [8, 80], [1, 512]],
        'optimization_level': 3,
        'workspace_mib': 64,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'recipe.yaml'


def read(path: Path, content: object) -> Recipe:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return Recipe.from_yaml(path)


def refusal(path: Path, content: object) -> str:
    """One line that names the file."""
    with pytest.raises(EngineFileError) as caught:
        read(path, content)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert '\n' not in text
    return text


def test_there_is_one_for_each_kind_of_machine() -> None:
    assert tuple(recipes()) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_the_released_model_fits(name: str) -> None:
    recipe = recipe_named(name)
    config, tokens = Kosmos2Config(), Limits().max_expression_tokens
    image = config.latent_query_num + 3
    assert image == 67
    assert recipe.prefix >= image
    # As the prefix, and as a piece of a longer prompt.
    assert recipe.chunk >= image
    # In one run each: all expressions that the decode loop puts at once, and what it opens of one,
    # with the longest expression and one token of its box.
    assert any(rows >= _MAX_ROWS and new >= tokens for rows, new, _ in recipe.prefill)
    short = min(slots for _, slots in recipe.decode)
    assert short >= tokens + 1
    assert (1, short) in recipe.decode
    assert any(rows >= _CELLS_PER_STEP and slots == short for rows, slots in recipe.decode)
    # A text with all positions of the model, and beams.
    assert recipe.prefix + recipe.capacity == config.text.max_position_embeddings
    assert any(rows >= Limits().max_beams and slots > short for rows, slots in recipe.decode)
    assert recipe.within(config.text.max_position_embeddings) == recipe
    # What other shapes than a single long row need is not much more than that.
    assert recipe.cached <= max(1976, max(rows for rows, _ in recipe.decode) * 80)
    assert recipe.runner == ('onnxruntime' if name == 'cpu' else 'tensorrt')
    assert len(set(recipe.shapes)) == len(recipe.shapes)


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(EngineFileError, match='no recipe .jetson.*cpu, desktop, jetson-orin'):
        recipe_named('jetson')
    with pytest.raises(EngineFileError, match='no recipe'):
        recipe_named('../engines/cpu')


@pytest.mark.parametrize('name', NAMES)
def test_written_and_read_it_is_the_same(path: Path, name: str) -> None:
    recipe = replace(recipe_named(name), description='Zürich: a "robot" # {1}\nand more')
    recipe.write(path)
    assert Recipe.from_yaml(path) == recipe


@pytest.mark.parametrize(
    ('runner', 'precision', 'activations'),
    [
        ('onnxruntime', 'fp32', 'fp32'),
        ('onnxruntime', 'int8', 'fp32'),
        ('tensorrt', 'fp16', 'fp16'),
        ('tensorrt', 'bf16', 'bf16'),
        ('tensorrt', 'int8', 'fp16'),
    ],
)
def test_activations(
    path: Path, fields: dict[str, Any], runner: str, precision: str, activations: str
) -> None:
    fields |= {'runner': runner, 'precision': precision}
    assert read(path, fields).activations == activations


def test_another_precision_must_be_one_of_the_runner() -> None:
    recipe = recipe_named('desktop')
    assert recipe.with_precision('int8') == replace(recipe, precision='int8')
    for name, precision, known in (
        ('desktop', 'x', 'fp32, fp16, bf16, int8'),
        ('cpu', 'fp16', 'fp32, int8'),
    ):
        with pytest.raises(EngineFileError, match=f'{precision} does not fit.*{known}'):
            recipe_named(name).with_precision(precision)


def test_all_shapes_prefill_first(path: Path, fields: dict[str, Any]) -> None:
    assert read(path, fields).shapes == (
        *((1, 72, 80), (4, 32, 80), (1, 72, 512)),
        *((1, 1, 80), (8, 1, 80), (1, 1, 512)),
    )


def test_what_follows_from_shapes(path: Path, fields: dict[str, Any]) -> None:
    recipe = read(path, fields)
    assert (recipe.chunk, recipe.capacity) == (72, 512)
    assert (recipe.cached, recipe.fresh) == (640, 128)


def test_it_becomes_smaller_for_a_model_of_fewer_positions(
    path: Path, fields: dict[str, Any]
) -> None:
    recipe = read(path, fields)
    assert recipe.within(584) == recipe
    smaller = recipe.within(583)
    assert smaller.shapes == (
        *((1, 72, 80), (4, 32, 80), (1, 72, 504)),
        *((1, 1, 80), (8, 1, 80), (1, 1, 504)),
    )
    # What is the same then is there once.
    assert recipe.within(152).shapes == ((1, 72, 80), (4, 32, 80), (1, 1, 80), (8, 1, 80))
    # Tokens have to fit into what is left of the slots.
    assert recipe.within(151).shapes == ((1, 64, 72), (4, 32, 72), (1, 1, 72), (8, 1, 72))
    for positions in (87, 72, 60):
        with pytest.raises(EngineFileError, match='does not fit this recipe'):
            recipe.within(positions)


WRONG: dict[str, list[Any]] = {
    'description': [None, 7, ['x'], True],
    'runner': [None, 7, 'torch', 'TensorRT', '', ['tensorrt']],
    'precision': [None, 7, 'fp16', 'bf16', 'fp64', '', ['fp32']],
    'prefix': [None, 0, -8, 71, 72.0, '72', False, [72]],
    'prefill': [
        *(None, 7, 'x', 'abc', [], [[]], [1, 72, 512], [[1, 72]], [[1, 72, 512, 1]], {1: 72}),
        *(['abc'], [None], [[1, 0, 512]], [[0, 72, 512]], [[1, -72, 512]], [[1, 72.0, 512]]),
        *([['1', '72', '512']], [[True, 72, 512]], [[1, 72, None]], [[1, 72, 0]], [[1, 72, -8]]),
        # Steps of 8; more slots than tokens; a single row with the most of both.
        *([[1, 72, 510]], [[1, 72, 72], [1, 72, 512]], [[1, 512, 512]], [[2, 72, 512]]),
        *([[1, 72, 80]], [[1, 72, 520]], [[1, 72, 512], [1, 80, 88]], [[1, 72, 512], [4, 80, 88]]),
        *([[1, 72, 512], [4, 32, 520]], [[1, 16, 512], [1, 72, 80]]),
    ],
    'decode': [
        *(None, 7, 'x', '', [], [1], [[1]], [1, 512], [[0, 512]], [[-1, 512]], [[1.0, 512]]),
        *([['1', 512]], [[True, 512]], [[None, 512]], [[1, 72, 512]], {1: 512}),
        *([[1, 511]], [[1, 80]], [[8, 512]], [[1, 512], [8, 520]], [[1, 520]]),
    ],
    'optimization_level': [None, -1, 6, 3.0, '3', True, [3]],
    'workspace_mib': [None, 0, -1, 64.0, '64', True, [64]],
}


@pytest.mark.parametrize(
    ('name', 'value'), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    path: Path, fields: dict[str, Any], name: str, value: object
) -> None:
    text = refusal(path, fields | {name: value})
    assert name in text.removeprefix(str(path))


@pytest.mark.parametrize('runner', PRECISIONS)
def test_precisions_are_those_of_the_runner(
    path: Path, fields: dict[str, Any], runner: str
) -> None:
    for precision in ('fp32', 'fp16', 'bf16', 'int8'):
        content = fields | {'runner': runner, 'precision': precision}
        if precision in PRECISIONS[runner]:
            assert read(path, content).precision == precision
        else:
            assert f'the precision for {runner}' in refusal(path, content)


def test_senseless_shapes_say_what_there_must_be(path: Path, fields: dict[str, Any]) -> None:
    for change, sentence in [
        ({'prefill': [[1, 72, 80]]}, 'must have a single row, the most tokens, .*: [1, 72, 512]'),
        ({'decode': [[8, 512]]}, 'one shape of decode must have a single row .*: [1, 512]'),
        ({'prefill': [[1, 72, 72], [1, 72, 512]]}, 'prefill must have more slots than tokens'),
        ({'decode': [[1, 100]]}, 'slots in prefill and decode must be multiples of 8'),
        ({'prefill': [[1, 72]]}, 'prefill must have lists [rows, tokens, slots], not [1, 72]'),
        ({'decode': [1, 8]}, 'decode must have lists [rows, slots], not 1'),
    ]:
        pattern = re.escape(sentence).replace(re.escape('.*'), '.*')
        assert re.search(pattern, refusal(path, fields | change))


def test_a_field_too_few_or_too_many_is_named(path: Path, fields: dict[str, Any]) -> None:
    for name in fields:
        rest = {key: value for key, value in fields.items() if key != name}
        assert f"['{name}'] missing or unknown" in refusal(path, rest)
    assert "['more'] missing or unknown" in refusal(path, fields | {'more': 1})
    assert "['7', 'None'] missing or unknown" in refusal(path, fields | {7: 1, None: 2})


@pytest.mark.parametrize(
    'content',
    ['', 'a text', '7', '- a\n- list', 'null', '---\na: 1\n---\nb: 2', '[', '{', '\t', '&a [*a]'],
)
def test_what_is_no_mapping_is_no_recipe(path: Path, content: str) -> None:
    refusal(path, content)


@pytest.mark.parametrize('content', [b'\xff\xfe\x00', b'a: \x00', b'\x80'])
def test_what_is_no_text_is_no_recipe(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EngineFileError, match='cannot be read as a recipe'):
        Recipe.from_yaml(path)


@pytest.mark.parametrize('content', ['[' * 20_000, '{a: ' * 20_000], ids=['lists', 'mappings'])
def test_depth_is_no_way_in(path: Path, content: str) -> None:
    refusal(path, content)


@pytest.mark.parametrize('place', ['missing', '.'])
def test_what_is_no_file_is_no_recipe(tmp_path: Path, place: str) -> None:
    with pytest.raises(EngineFileError, match='cannot be read as a recipe'):
        Recipe.from_yaml(tmp_path / place)


@pytest.mark.parametrize(
    'value',
    [
        '!!python/object/apply:os.system ["touch {}"]',
        '!!python/object/new:os.system ["touch {}"]',
        '!!python/object:os.system {{}}',
        '!!python/name:os.system',
        '!!python/tuple [1, 8]',
        '!other [1, 8]',
    ],
)
def test_yaml_makes_no_objects(
    path: Path, fields: dict[str, Any], tmp_path: Path, value: str
) -> None:
    text = yaml.safe_dump(fields).replace('a machine', value.format(tmp_path / 'made'))
    assert '!' in text
    assert 'cannot be read as a recipe' in refusal(path, text)
    assert not (tmp_path / 'made').exists()
