"""`kosmos_ros ask`: all forms of a question, the answer in words, the picture, the JSON line."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
from running import Command

from kosmos_ros.console.main import main
from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Example, Region, Task
from kosmos_ros.testing.fake_engine import FakeEngine
from kosmos_ros.testing.script import Act, Speech

Load = Callable[..., FakeEngine]
CUP = Speech(('a', 'cup', 'here'), {'cup': (ScoredBox(Box(0.25, 0.5, 0.75, 1), 0.9),)})
QUESTION = 'Question: What is this?'
QUARTER = Box(0.25, 0.25, 0.5, 0.5)


@pytest.mark.parametrize(
    ('arguments', 'asked'),
    [
        ('cup.png', Ask(Task.CAPTION, images=1)),
        ('cup.png mug.jpg', Ask(Task.CAPTION, images=2)),
        (f'cup.png|{QUESTION}', Ask(Task.GROUNDED_QUESTION, QUESTION, images=1)),
        (f'cup.png mug.jpg|{QUESTION}', Ask(Task.GROUNDED_QUESTION, QUESTION, images=2)),
        (f'--task question cup.png|{QUESTION}', Ask(Task.QUESTION, QUESTION, images=1)),
        (f'cup.png|{QUESTION}|--task question', Ask(Task.QUESTION, QUESTION, images=1)),
        (f'cup.png --task question|{QUESTION}', Ask(Task.QUESTION, QUESTION, images=1)),
        (f'cup.png --stream mug.jpg|{QUESTION}', Ask(Task.GROUNDED_QUESTION, QUESTION, images=2)),
        ('cup.png --task detailed-caption', Ask(Task.DETAILED_CAPTION, images=1)),
        ('cup.png --task READ_TEXT', Ask(Task.READ_TEXT, images=1)),
        ('A robot is|--task complete', Ask(Task.COMPLETE, 'A robot is')),
        ('Hello!|--task chat', Ask(Task.CHAT, 'Hello!')),
        ('cup.png Hello! --task chat', Ask(Task.CHAT, 'Hello!', images=1)),
        (
            'cup.png|a cup on a table|--phrase|a cup|--phrase|a table',
            Ask(Task.GROUND_CAPTION, 'a cup on a table', ('a cup', 'a table'), 1),
        ),
        (
            'cup.png --region 20,15,40,30',
            Ask(Task.DESCRIBE_REGION, images=1, regions=(Region(QUARTER),)),
        ),
        (
            'cup.png|What is it?|--region|20,15,40,30=it',
            Ask(Task.GROUNDED_QUESTION, 'What is it?', images=1, regions=(Region(QUARTER, 'it'),)),
        ),
        (
            'cup.png What? --example mug.jpg|a mug|--example cup.png|a cup',
            Ask(
                Task.GROUNDED_QUESTION,
                'What?',
                images=1,
                examples=(Example('a mug'), Example('a cup')),
            ),
        ),
        (
            'cup.png --max-tokens 7 --beams 3',
            Ask(Task.CAPTION, images=1, max_tokens=7, beams=3),
        ),
    ],
)
def test_forms(arguments: str, asked: Ask, command: Command, load: Load) -> None:
    """Arguments are split at '|', and where that is no matter at spaces."""
    parts = arguments.split('|')
    words = [word for part in parts for word in ([part] if is_text(part) else part.split())]
    engine = load()
    summary = command('ask', *words)
    assert engine.calls.asked == [asked]
    assert summary['task'] == asked.task.name
    assert len(engine.calls.encoded) == asked.images + len(asked.examples)
    assert ('image' in summary) == bool(asked.images)


def is_text(part: str) -> bool:
    return ' ' in part and not part.startswith(('cup', 'mug', '--'))


def test_prints_and_draws(command: Command, load: Load, here: Path) -> None:
    engine = load(speech=CUP)
    summary = command('ask', 'mug.jpg', 'cup.png', QUESTION)
    assert summary.pop('ms') > 0  # type: ignore[operator]
    place = str(here / 'cup.ask.png')
    assert summary == {
        'task': 'GROUNDED_QUESTION',
        'text': 'a cup here',
        'groundings': [
            {'phrase': 'cup', 'span': [2, 5], 'boxes_px': [[20, 30, 60, 60]], 'scores': [0.9]}
        ],
        'tokens': 3,
        'finish': 'END',
        'engine': 'fake',
        'image': place,
    }
    assert [line.split() for line in command.lines] == [
        ['a', 'cup', 'here'],
        [],
        ['phrase', 'box', 'x0', 'y0', 'x1', 'y1', '(px)', 'score'],
        ['cup', '20', '30', '60', '60', '0.90'],
    ]
    assert command.err == f'picture: {place}\n'
    with Image.open(place) as picture:
        assert picture.height > picture.width * 60 / 80
    assert engine.calls.closed == 1


def test_without_an_image_there_is_no_picture(command: Command, load: Load, here: Path) -> None:
    load(speech=CUP)
    summary = command('ask', 'A robot is', '--task', 'complete')
    assert 'image' not in summary
    assert command.lines == ['a cup here']
    assert {path.name for path in here.iterdir()} == {'cup.png', 'mug.jpg'}


def test_an_answer_that_was_cut_off(command: Command, load: Load) -> None:
    load(speech=CUP)
    summary = command('ask', 'cup.png', '--max-tokens', '2')
    assert (summary['finish'], summary['text']) == ('LENGTH', 'a cup')
    assert '--max-tokens' in command.err


def test_text_that_a_terminal_would_obey(command: Command, load: Load) -> None:
    load(speech=Speech(('\x1b[31mred', '漢字', '\u202e', 'two\nlines')))
    summary = command('ask', 'cup.png')
    assert summary['text'] == '\x1b[31mred 漢字 \u202e two\nlines'
    assert command.lines[:2] == [' [31mred 漢字   two', 'lines']


@pytest.mark.parametrize('stream', [[], ['--stream']])
def test_ctrl_c_leaves_what_was_said(stream: list[str], command: Command, load: Load) -> None:
    interrupted = Act(failure=KeyboardInterrupt())
    engine = load(speech=Speech(('one', 'two', 'three'), act=interrupted, after=2))
    summary = command('ask', 'cup.png', *stream, code=130)
    assert (summary['finish'], summary['text'], summary['tokens']) == ('CANCELLED', 'one two', 2)
    assert command.lines == ['one two']
    assert engine.calls.closed == 1


def test_ctrl_c_before_a_word(
    command: Command, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    load(encode=Act(failure=KeyboardInterrupt()))
    assert main(['ask', 'cup.png']) == 130
    assert capsys.readouterr() == ('', '')


def test_an_engine_that_fails_in_the_middle(
    command: Command, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    load(speech=Speech(('one', 'two'), act=Act(failure=EngineError('out of order')), after=1))
    assert main(['ask', 'cup.png', '--stream']) == 1
    assert capsys.readouterr() == ('one\n', 'kosmos_ros: out of order\n')


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['none.png'], 'there is no file none.png'),
        (['none.png', QUESTION], 'there is no file none.png'),
        (['cup.png', 'What', 'is', 'this?'], 'there is no file What; '),
        (['cup.png', 'none.jpg'], 'there is no file none.jpg'),
        (['.', QUESTION], 'folder'),
        (['notes', QUESTION], 'notes is no picture'),
        (['cup.png', 'notes'], 'notes is no picture'),
        (['What is this?'], "GROUNDED_QUESTION needs an image, and 'What is this?' is no file"),
        (['It is', '--region', '1,1,2,2=It', '--task', 'complete'], 'needs an image'),
        (['cup.png', '--task', 'question'], 'QUESTION needs a text'),
        (['cup.png', 'What?', '--task', 'caption'], 'CAPTION takes no text'),
        (['cup.png', 'a cup', '--task', 'ground_caption'], 'needs phrases'),
        (['cup.png', 'a cup', '--phrase', 'a mug'], "'a mug' is not in the text"),
        (['cup.png', '--region', '9,9,3,3'], 'no area'),
        (['cup.png', '--region', '90,9,99,33'], 'outside'),
        (['cup.png', '--region', 'nan,9,99,33'], 'not a finite number'),
        (['cup.png', '--stream', '--beams', '2'], 'leave out --beams or --stream'),
        (['Hello!', '--task', 'chat', '--out', 'x.png'], '--out needs an image'),
        (['cup.png', '--out', 'no/x.png'], 'not a directory'),
        (['cup.png', '--example', 'none.png', 'a mug'], 'none.png'),
        (['cup.png', '<image>'], 'tag'),
        (['cup.png', 'a\x07'], 'control'),
        (['cup.png', '\udcff'], 'surrogate'),
        (['cup.png', 'x' * 5000], 'shorten'),
        (['cup.png'] * 17, 'at most 16'),
    ],
)
def test_refuses(
    arguments: list[str], reason: str, command: Command, load: Load, here: Path
) -> None:
    (here / 'notes').write_text('no picture')
    load()
    assert reason in command.refused('ask', *arguments)


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ([], 'required: IMAGE|TEXT'),
        (['cup.png', '--task', 'sing'], "there is no task 'sing'; there is caption, "),
        (['cup.png', '--region', '1,2,3'], 'not X0,Y0,X1,Y1'),
        (['cup.png', '--region', '1,2,3,x=it'], 'not X0,Y0,X1,Y1'),
        (['cup.png', '--beams', '0'], 'must be 1 to 8'),
        (['cup.png', '--max-tokens', '0'], 'must be 1 or more'),
        (['cup.png', '--max-tokens', 'many'], 'not a whole number'),
        (['cup.png', '--example', 'mug.jpg'], 'expected 2 arguments'),
        (['cup.png', '--out', 'x.gif'], 'does not end in .png'),
        (['cup.png', '--louder'], 'unrecognized arguments: --louder'),
        (['cup.png', '--stream', 'What?', '--louder'], 'unrecognized arguments: What? --louder'),
    ],
)
def test_wrong_use(arguments: list[str], reason: str, command: Command) -> None:
    assert reason in command.misused('ask', *arguments)


def test_phrases_below_the_picture_have_the_colour_of_their_frames(
    command: Command, load: Load, here: Path
) -> None:
    load(speech=CUP)
    command('ask', 'cup.png')
    with Image.open(here / 'cup.ask.png') as picture:
        pixels = np.asarray(picture)
    colourful = pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 200
    split = picture.width * 60 // 80
    assert len(np.unique(pixels[:split][colourful[:split]], axis=0)) < 30
    (above, below) = (
        np.median(part[mask], axis=0)
        for part, mask in (
            (pixels[:split], colourful[:split]),
            (pixels[split:], colourful[split:]),
        )
    )
    assert np.array_equal(above, below)


def start(here: Path, *arguments: str, **speech: object) -> 'subprocess.Popen[str]':
    """The command as a process, with an engine that talks slowly and without an end."""
    script = {'speech': {'words': 'word', 'endless': True, 'act': {'latency_s': 0.02}} | speech}
    (here / 'script.json').write_text(json.dumps(script))
    # Whoever runs the tests in the background ignores Ctrl-C, and so would all that they start.
    return subprocess.Popen(
        ['env', '--default-signal=INT', sys.executable, '-m', 'kosmos_ros', 'ask', *arguments]
        + ['--engine', 'fake:script.json', '--max-tokens', '2000'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
    )


def test_streams_and_ends_at_ctrl_c(here: Path) -> None:
    with start(here, 'cup.png', '--stream') as process:
        assert process.stdout is not None
        assert process.stdout.read(9) == 'word word'
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert 'Traceback' not in err
    text, last = out.splitlines()
    summary = json.loads(last)
    assert summary['finish'] == 'CANCELLED'
    assert summary['text'] == f'word word{text}'
    assert Path(summary['image']).is_file()


def test_a_reader_that_goes_away(here: Path) -> None:
    with start(here, 'cup.png', '--stream') as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == ''
