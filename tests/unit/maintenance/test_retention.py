"""The policy: which snapshots are kept."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.maintenance.retention import Retention

HOUR = 3600.0


def commits(*hours: float) -> list[tuple[str, float]]:
    return [(f"{number:06d}", when * HOUR) for number, when in enumerate(hours)]


def test_the_last_few_are_kept() -> None:
    assert Retention(last=3).kept(commits(1, 2, 3, 4, 5)) == ["000002", "000003", "000004"]
    assert Retention(last=3).kept(commits(1)) == ["000000"]
    assert Retention(last=None).kept(commits(1, 2, 3, 4)) == ["000000", "000001", "000002", "000003"]


def test_one_for_every_period_is_kept_beside_them() -> None:
    assert Retention(last=1, hours=6).kept(commits(1, 2, 5.9, 6, 7, 13, 14, 15)) == ["000002", "000004", "000007"]


@given(st.lists(st.floats(0, 1e6), max_size=30).map(sorted), st.integers(1, 5), st.none() | st.floats(0.1, 100))
def test_the_newest_is_always_kept_and_what_is_dropped_stays_dropped(
    hours: list[float], last: int, every: float | None
) -> None:
    policy = Retention(last=last, hours=every)
    every_one = commits(*hours)
    kept = policy.kept(every_one)
    assert kept[-last:] == [name for name, _ in every_one[-last:]]
    left = [(name, when) for name, when in every_one if name in kept]
    assert policy.kept(left) == kept
