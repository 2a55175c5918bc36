"""A closed engine answers nothing more."""

import pytest

from kosmos_ros import Ask, EngineError, Finish, Task

from .engines import Make, is_sentence, picture


def test_it_is_closed_once_and_for_all(make: Make) -> None:
    engine = make()
    context = engine.encode_image(picture())
    drafts = engine.ask(Ask(Task.CAPTION), [context])
    begun = engine.ask(Ask(Task.CAPTION), [context])
    more = next(begun).finish is Finish.NONE
    engine.close()
    engine.close()
    for call in (
        lambda: engine.encode_image(picture()),
        lambda: engine.locate(context, ['the red ball']),
        lambda: engine.ask(Ask(Task.CAPTION), [context]),
        # An answer of one draft has been computed by then.
        *((lambda: next(drafts), lambda: next(begun)) if more else ()),
    ):
        with pytest.raises(EngineError) as caught:
            call()
        assert caught.type is EngineError
        assert is_sentence(caught.value)
    with pytest.raises(EngineError), engine:
        engine.encode_image(picture())


def test_with_closes_it_whatever_happens(make: Make) -> None:
    with pytest.raises(KeyError), make() as engine:
        raise KeyError('the body')
    with pytest.raises(EngineError):
        engine.encode_image(picture())
    with make() as engine:
        pass
    with pytest.raises(EngineError):
        engine.encode_image(picture())


def test_closed_after_the_last_word_it_ends_as_usual(make: Make) -> None:
    engine = make()
    for draft in engine.ask(Ask(Task.CAPTION), [engine.encode_image(picture())]):
        if draft.finish is not Finish.NONE:
            engine.close()
    assert draft.read().text
