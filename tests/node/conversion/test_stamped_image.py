"""How old is a frame, whatever clocks and stamps do?"""

from builtin_interfaces.msg import Time
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from kosmos_ros.node.conversion.stamped_image import Instant, StampedImage

HOUR = 3600.0
STAMP = 1_700_000_000


def shot(stamp_s: float, received: Instant) -> StampedImage:
    whole = int(stamp_s)
    stamp = Time(sec=whole, nanosec=round((stamp_s - whole) * 1e9))
    return StampedImage(Image(header=Header(stamp=stamp)), received)


def instant(ros_s: float, monotonic_s: float) -> Instant:
    return Instant(round(ros_s * 1e9), monotonic_s)


RECEIVED = instant(STAMP + 0.25, 100.0)


@pytest.mark.parametrize(
    ('stamp_s', 'now', 'age_s'),
    [
        pytest.param(STAMP, instant(STAMP + 1.25, 101.0), 1.25, id='by its stamp'),
        pytest.param(0, instant(STAMP + 1.25, 101.0), 1.0, id='no stamp: since it came'),
        pytest.param(STAMP + HOUR, instant(STAMP + 1.25, 101.0), 1.0, id='from the future'),
        pytest.param(STAMP - HOUR, instant(STAMP, 100.1), HOUR, id='an old stamp is believed'),
        pytest.param(STAMP, instant(STAMP + HOUR + 1.25, 101.0), 1.25, id='clock set forward'),
        pytest.param(STAMP, instant(STAMP - HOUR, 101.0), 1.0, id='clock set back'),
    ],
)
def test_age(stamp_s: float, now: Instant, age_s: float) -> None:
    assert shot(stamp_s, RECEIVED).age_s(now) == pytest.approx(age_s, abs=1e-6)


def test_simulated_time_may_stand_still_or_run() -> None:
    one = shot(STAMP, RECEIVED)
    paused = one.age_s(instant(STAMP + 0.25, 160.0), simulated_time=True)
    assert paused == pytest.approx(0.25)
    fast = one.age_s(instant(STAMP + 10.25, 101.0), simulated_time=True)
    assert fast == pytest.approx(10.25)
    # A bag that begins again: the frame is from the future.
    assert one.age_s(instant(STAMP - 60, 103.0), simulated_time=True) == pytest.approx(3.0)
