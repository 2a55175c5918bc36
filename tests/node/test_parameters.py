"""The table of parameters: complete, consistent, and what params.yaml says."""

from dataclasses import fields
import math
from pathlib import Path

import pytest
from rclpy.parameter import Parameter
import yaml

from kosmos_ros.limits import Limits
from kosmos_ros.node.parameters import (
    TABLE,
    Row,
    Settings,
    markdown_table,
    refusal,
    settings_from,
    texts,
)

PARAMS = Path(__file__).parents[2] / 'launch' / 'params.yaml'


@pytest.mark.parametrize('row', TABLE, ids=lambda row: row.name)
def test_every_default_is_taken(row: Row) -> None:
    assert refusal(Parameter(row.name, value=row.default), configured=False) == ''
    assert row.description.endswith('.')
    assert len(row.description) < 100


def test_the_table_is_the_settings() -> None:
    assert [field.name for field in fields(Settings)] == [row.name for row in TABLE]
    settings = settings_from({row.name: row.default for row in TABLE})
    assert settings.expressions == ()
    assert settings.cameras == ('camera',)
    assert settings.max_waiting == Limits().max_waiting
    assert settings.max_asks == Limits().max_asks


def test_params_yaml_has_all_defaults() -> None:
    loaded = yaml.safe_load(PARAMS.read_text())['/**/kosmos']['ros__parameters']
    assert loaded == {row.name: row.default for row in TABLE}
    for name, value in loaded.items():
        assert type(value) is type(next(row.default for row in TABLE if row.name == name))


@pytest.mark.parametrize(
    ('name', 'value', 'word'),
    [
        ('rate', math.nan, '0.01 to 1000'),
        ('rate', 0.0, '0.01 to 1000'),
        ('rate', True, 'number'),
        ('score_threshold', math.inf, '0 to 1'),
        ('score_threshold', -0.0001, '0 to 1'),
        ('timeout', 60.1, '60'),
        ('max_waiting', 0, '1 to 64'),
        ('max_asks', 65, '1 to 64'),
        ('ask_timeout', 601.0, '600'),
        ('max_conversations', 0, '1 to 1000'),
        ('conversation_age', math.nan, '86400'),
        ('conversation_memory', -1, '0 to 100000'),
        ('runner', 'cuda', 'onnxruntime'),
        ('self_check', 'on', 'quick'),
        ('self_check', True, 'quick'),
        ('self_check', 0, 'quick'),
        ('build_plans', 'always', 'missing'),
        ('build_plans', False, 'missing'),
        ('image_transport', 'RAW', 'compressed'),
        ('cameras', [''], 'at least one'),
        ('cameras', ['a', 'a'], 'different'),
        ('cameras', ['a/b'], 'a/b'),
        ('cameras', ['é'], 'letters'),
        ('expressions', [1, 2], 'texts'),
        ('expressions', 4.5, 'texts'),
    ],
)
def test_refused(name: str, value: object, word: str) -> None:
    reason = refusal(Parameter(name, value=value), configured=False)
    assert word in reason
    assert reason.endswith('.')


def test_off_without_quotes_is_no_truth_value() -> None:
    assert refusal(Parameter('self_check', value=False), configured=False) == ''
    values = {row.name: row.default for row in TABLE} | {'self_check': False, 'autostart': False}
    settings = settings_from(values)
    assert settings.self_check == 'off'
    assert settings.autostart is False


def test_what_configure_reads_is_fixed_after_it() -> None:
    for row in TABLE:
        reason = refusal(Parameter(row.name, value=row.default), configured=True)
        assert bool(reason) == (row.change == 'before configure'), row.name


def test_lists_of_texts() -> None:
    assert texts('the ball') == ('the ball',)
    assert texts(['a', '', 'b']) == ('a', 'b')
    assert texts([]) == texts(None) == texts(['']) == ()


def test_other_nodes_parameters_are_left_alone() -> None:
    assert refusal(Parameter('use_sim_time', value=True), configured=True) == ''


def test_markdown_has_a_line_for_each() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(TABLE)
    for row, line in zip(TABLE, lines[2:], strict=True):
        assert line.startswith(f'| `{row.name}` |')
        assert line.count('|') == 6


def test_params_yaml_explains_every_parameter() -> None:
    text = PARAMS.read_text()
    assert [row.name for row in TABLE if f'# {row.description}' not in text] == []
