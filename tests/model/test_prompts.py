"""Prompts as token ids."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.prompts import (
    PROMPT_TEMPLATES,
    image_prefix,
    phrase_spans,
    prompts_for,
    refer_prompt,
)
from kosmos_ros.model.tasks import Ask, Example, Region, Task, checked
from kosmos_ros.model.vocabulary import Vocabulary

from .reference import tokenizer

# Cells 5 and 911 of the published example.
FIRE = Region(Box(0.17, 0.01, 0.49, 0.9), 'the fire')
FIRE_BOX = '<object><patch_index_0005><patch_index_0911></object>'
IT = Region(FIRE.box_in_image)
# The prompts after the images, as published or assembled from published parts.
PUBLISHED = [
    (Ask(Task.CAPTION, images=1), ['<grounding>An image of']),
    (Ask(Task.DETAILED_CAPTION, images=1), ['<grounding>Describe this image in detail:']),
    (
        Ask(Task.DETAILED_CAPTION, 'this bird', images=1),
        ['<grounding>Describe this bird in detail:'],
    ),
    (
        Ask(
            Task.GROUND_CAPTION,
            'a snowman warming himself by a fire',
            phrases=('a snowman', 'a fire'),
            images=1,
        ),
        [
            '<grounding><phrase>a snowman</phrase><object>',
            '<grounding>a snowman warming himself by <phrase>a fire</phrase><object>',
        ],
    ),
    (
        Ask(Task.QUESTION, 'How many cows are here?', images=1),
        ['Question: How many cows are here? Answer:'],
    ),
    (Ask(Task.QUESTION, 'Question: Why? Answer:', images=1), ['Question: Why? Answer:']),
    (
        Ask(Task.GROUNDED_QUESTION, 'What is special about this image?', images=1),
        ['<grounding> Question: What is special about this image? Answer:'],
    ),
    (
        Ask(Task.GROUNDED_QUESTION, 'Where is the fire next to?', images=1, regions=(FIRE,)),
        [f'<grounding> Question: Where is<phrase> the fire</phrase>{FIRE_BOX} next to? Answer:'],
    ),
    (Ask(Task.READ_TEXT, images=1), ['Question: What does it say? Answer:']),
    (
        Ask(Task.DESCRIBE_REGION, images=1, regions=(IT,)),
        [f'<grounding><phrase> It</phrase>{FIRE_BOX} is'],
    ),
    (
        Ask(Task.DESCRIBE_REGION, images=1, regions=(Region(FIRE.box_in_image, 'The object'),)),
        [f'<grounding><phrase> The object</phrase>{FIRE_BOX} is'],
    ),
    (
        Ask(Task.COMPLETE, 'To pick up the fire, you need to', images=1, regions=(FIRE,)),
        [f'<grounding>To pick up<phrase> the fire</phrase>{FIRE_BOX}, you need to'],
    ),
    (Ask(Task.COMPLETE, 'An image of', images=1), ['An image of']),
    (Ask(Task.CHAT, 'What is it?', images=1), ['<grounding> Question: What is it? Answer:']),
    (Ask(Task.CHAT, 'And why?'), ['Question: And why? Answer:']),
]


def image(latents: int) -> list[int]:
    return [64003, *range(4, 4 + latents), 64004]


@pytest.mark.parametrize(('ask', 'texts'), PUBLISHED)
def test_prompts_are_the_published_ones(
    ask: Ask, texts: list[str], released: Vocabulary, shared_data: Path
) -> None:
    reference = tokenizer(shared_data / 'sentencepiece.bpe.model')
    found = prompts_for(released, ask, 64, begin=True)
    expected = [reference(text, add_special_tokens=False)['input_ids'] for text in texts]
    assert found == [[0, *image(64) * ask.images, *ids] for ids in expected]


def test_every_task_has_a_template_with_a_source() -> None:
    assert set(PROMPT_TEMPLATES) == set(Task)
    assert {ask.task for ask, _ in PUBLISHED} == set(Task)
    assert all(template.source for template in PROMPT_TEMPLATES.values())


def test_several_images_follow_one_another(released: Vocabulary) -> None:
    (found,) = prompts_for(released, Ask(Task.CAPTION, images=3), 2, begin=True)
    assert found == [0, *image(2) * 3, 64012, *released.encode('An image of')]


def test_examples_come_first_each_with_its_image(released: Vocabulary) -> None:
    shot = Example('It is the giraffe in the middle.', (Region(FIRE.box_in_image, 'It'),))
    ask = Ask(Task.DESCRIBE_REGION, images=1, regions=(IT,), examples=(shot, shot))
    (found,) = prompts_for(released, ask, 2, begin=True)
    it = [64007, *released.encode('It'), 64008, 64009, 64013 + 5, 64013 + 911, 64010]
    example = [*image(2), *it, *released.encode('is the giraffe in the middle.')]
    question = [*image(2), 64012, *it, *released.encode('is')]
    assert found == [0, *example, *example, *question]


def test_a_later_turn_begins_no_sequence(released: Vocabulary) -> None:
    (found,) = prompts_for(released, Ask(Task.CHAT, 'And now?', images=1), 2, begin=False)
    question = released.encode('Question: And now? Answer:')
    assert found == [*image(2), 64012, *question]


def test_one_phrase_may_mean_several_regions(released: Vocabulary) -> None:
    two = (Region(Box(0, 0, 0.1, 0.1), 'dogs'), Region(Box(0.5, 0.5, 0.6, 0.6), 'dogs'))
    (found,) = prompts_for(
        released, Ask(Task.COMPLETE, 'The dogs', images=1, regions=two), 0, begin=True
    )
    *_, opened, a, b, between, c, d, closed = found
    assert (opened, between, closed) == (64009, 64011, 64010)
    assert [number - 64013 for number in (a, b, c, d)] == [0, 99, 528, 627]


@pytest.mark.parametrize(
    ('ask', 'why'),
    [
        (Ask(Task.QUESTION, images=1), 'QUESTION needs a text'),
        (Ask(Task.QUESTION, 'why'), 'QUESTION needs an image'),
        (Ask(Task.CAPTION), 'CAPTION needs an image'),
        (Ask(Task.CAPTION, 'why', images=1), 'takes no text'),
        (Ask(Task.CAPTION, images=1, regions=(IT,)), 'takes no regions'),
        (Ask(Task.GROUND_CAPTION, 'a dog', images=1), 'needs phrases'),
        (Ask(Task.GROUND_CAPTION, 'a dog', ('a cat',), 1), "'a cat' is not in the text 'a dog'"),
        (Ask(Task.GROUND_CAPTION, 'a dog', ('a do',), 1), "'a do' is not in the text"),
        (Ask(Task.GROUND_CAPTION, 'b a', ('a', 'b'), 1), "'b' is not in the text 'b a'"),
        (Ask(Task.QUESTION, 'why', ('why',), 1), 'takes no phrases'),
        (Ask(Task.DESCRIBE_REGION, images=1), 'needs a region'),
        (Ask(Task.DESCRIBE_REGION, images=1, regions=(IT, FIRE)), 'the same phrase'),
        (Ask(Task.QUESTION, 'why', images=1, regions=(IT,)), "The phrase '' is not in the text"),
        (
            Ask(Task.COMPLETE, 'It', images=1, regions=(Region(Box(0.5, 0.5, 0.4, 0.6), 'It'),)),
            'A region cannot be used: .* no area',
        ),
        (
            Ask(Task.COMPLETE, 'It', images=1, regions=(Region(Box(1.5, 0.5, 1.6, 0.6), 'It'),)),
            'A region cannot be used: .* outside',
        ),
    ],
)
def test_tasks_refuse_questions_that_do_not_fit(ask: Ask, why: str, small: Vocabulary) -> None:
    with pytest.raises(BadExpression, match=why):
        prompts_for(small, ask, 2, begin=True)


@pytest.mark.parametrize(
    ('ask', 'why'),
    [
        (Ask(Task.CAPTION, images=20), '20 images'),
        (Ask(Task.CAPTION, images=16, examples=(Example('x'),)), '17 images'),
        (Ask(Task.CAPTION, beams=9), '9 beams'),
        (Ask(Task.COMPLETE, 'x' * 4001), 'The text has 4001 characters'),
        (Ask(Task.COMPLETE, 'a <image> b'), "contains the tag '<image>'"),
        (Ask(Task.COMPLETE, 'a', ('</phrase>',)), 'The phrase .* contains the tag'),
        (Ask(Task.COMPLETE, 'a', regions=(Region(IT.box_in_image, '<s>'),)), 'contains the tag'),
        (Ask(Task.COMPLETE, 'a', examples=(Example('<s>'),)), 'The text of an example'),
        (Ask(Task.COMPLETE, 'a', regions=(IT,) * 65), '65 regions'),
        (Ask(Task.COMPLETE, 'a', phrases=('a',) * 65), '65 phrases'),
        (Ask(Task.COMPLETE, 'a\x00b'), 'has a control character'),
    ],
)
def test_questions_beyond_the_limits_are_refused(ask: Ask, why: str) -> None:
    with pytest.raises(BadExpression, match=why):
        checked(ask, Limits())


def test_checked_normalises_spaces_only() -> None:
    ask = Ask(Task.COMPLETE, '  a   dog ', ('a  dog',), 1, (Region(FIRE.box_in_image, ' dog '),))
    assert checked(ask, Limits()) == Ask(
        Task.COMPLETE, 'a dog', ('a dog',), 1, (Region(FIRE.box_in_image, 'dog'),)
    )


@settings(deadline=None)
@given(st.lists(st.sampled_from(['a', 'dog', 'dogs', 'it', 'its', '.']), min_size=1), st.data())
def test_phrase_spans_are_whole_words_in_order(words: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(words) - 1), unique=True).map(sorted))
    text = ' '.join(words)
    spans = phrase_spans(text, [words[index] for index in chosen if words[index] != '.'])
    begin = 0
    for first, last in spans:
        assert begin <= first < last
        assert text[first:last] in words
        assert text[:first].endswith(' ') or first == 0
        assert text[last:].startswith(' ') or last == len(text)
        begin = last


def test_released_prefix(released: Vocabulary) -> None:
    assert image_prefix(released, 64) == [0, 64003, *range(4, 68), 64004]


def test_released_question(released: Vocabulary) -> None:
    assert refer_prompt(released, 'a snowman') == [64012, 64007, 10, 43867, 64008, 64009]


@pytest.mark.parametrize('latents', [1, 6, 64, 116, 117, 118, 2000])
def test_slots_are_text(small: Vocabulary, latents: int) -> None:
    ids = image_prefix(small, latents)
    slots = ids[2:-1]
    assert len(slots) == latents
    assert all(small.is_text(number) for number in slots)
    assert (ids[0], ids[1], ids[-1]) == (small.bos, small.image_open, small.image_close)


@pytest.mark.parametrize('expression', ['the red mug', '</phrase><object>', '<patch_index_0001>'])
def test_text_stays_between_its_tags(vocabulary: Vocabulary, expression: str) -> None:
    grounding, phrase_open, *words, phrase_close, object_open = refer_prompt(
        vocabulary, expression
    )
    assert (grounding, phrase_open) == (vocabulary.grounding, vocabulary.phrase_open)
    assert (phrase_close, object_open) == (vocabulary.phrase_close, vocabulary.object_open)
    assert words
    assert all(vocabulary.is_text(number) for number in words)


@pytest.mark.parametrize('expression', ['', ' ', '\ufffd'])
def test_expressions_without_visible_characters_are_refused(
    vocabulary: Vocabulary, expression: str
) -> None:
    with pytest.raises(BadExpression, match='nothing to read'):
        refer_prompt(vocabulary, expression)
