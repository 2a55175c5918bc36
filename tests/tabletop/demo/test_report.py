"""The report of `make demo`, including failures."""

from pathlib import Path

from kosmos_ros_msgs.action import Ask as AskAction
from kosmos_ros_msgs.srv import Refer
import numpy as np
from PIL import Image
import pytest

from kosmos_ros.engine.base import Answer
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Region, Task
from kosmos_ros.tabletop.demo.client import AskAnswer, ReferAnswer
from kosmos_ros.tabletop.demo.report import draw_answers, print_ask_answers, print_refer_answers
from kosmos_ros.tabletop.demo.scenes import AskQuestion, ReferQuestion

BALL = ReferQuestion('the red ball', 'attribute', (64.0, 48.0, 128.0, 96.0))
REFER_ANSWERS = [
    ReferAnswer(BALL, Refer.Response(), (64.0, 48.0, 128.0, 96.0), 0.5, 1.0),
    ReferAnswer(BALL, Refer.Response(status=6, message='Too many calls.'), None, 0.0, 0.0),
]
REGION = Ask(Task.DESCRIBE_REGION, images=1, regions=(Region(Box(0.1, 0.1, 0.2, 0.2)),))
ASK_ANSWERS = [
    AskAnswer(
        AskQuestion(Ask(Task.CAPTION, images=1), ''), AskAction.Result(tokens=9), Answer('a ball')
    ),
    AskAnswer(AskQuestion(REGION, 'a red ball'), AskAction.Result(tokens=3), Answer('a red ball')),
    AskAnswer(
        AskQuestion(Ask(Task.QUESTION, 'How many?', images=1), 'three'),
        AskAction.Result(status=6, message='Too many questions.'),
        Answer(''),
    ),
]


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    print_refer_answers(REFER_ANSWERS)
    print_ask_answers(ASK_ANSWERS)
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        '',
        'expression box x0 y0 x1 y1 (px) score IoU age ms ms',
        'the red ball 64 48 128 96 0.50 1.00 0 0.0',
        'the red ball Too many calls. 0.00 0.00 0 0.0',
        '',
        'task question answer truth tokens ms',
        'caption - a ball - 9 0.0',
        'describe_region 64 48 128 96 a red ball a red ball 3 0.0',
        'question How many? Too many questions. three 0 0.0',
    ]


def test_hits_and_correct_answers() -> None:
    assert [answer.is_hit for answer in REFER_ANSWERS] == [True, False]
    assert [answer.is_correct for answer in ASK_ANSWERS] == [None, True, False]


def test_draws_any_number_of_answers(tmp_path: Path) -> None:
    image = np.full((480, 640, 3), 128, np.uint8)
    draw_answers(image, REFER_ANSWERS, ASK_ANSWERS, tmp_path / 'all.png')
    draw_answers(image, REFER_ANSWERS[1:], [], tmp_path / 'less.png')
    with Image.open(tmp_path / 'all.png') as whole, Image.open(tmp_path / 'less.png') as less:
        assert whole.height > less.height >= 720
