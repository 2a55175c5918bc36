"""The first storm of replies is told, once."""

from kosmos_ros.node.middleware.reply_storm import ReplyStormWarning


def warnings_after(times_s: list[float]) -> list[str]:
    told: list[str] = []
    storm = ReplyStormWarning(told.append)
    for time_s in times_s:
        storm.on_reply(time_s)
    return told


def test_ten_at_once_and_a_steady_stream_are_no_storm() -> None:
    assert warnings_after([1.0] * 10) == []
    assert warnings_after([index / 50 for index in range(500)]) == []


def test_more_than_ten_at_once_are_told_once_with_the_cure() -> None:
    (told,) = warnings_after([1.0] * 11 + [2.0] * 500)
    assert 'QoSProfile(depth=200)' in told
