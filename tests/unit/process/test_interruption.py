"""One deadline follows from all notices and signals."""

import json
from pathlib import Path

import pytest

from holdfast.notices.imds import Notice
from holdfast_entrypoint.process.interruption import Interruption


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Setting:
    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.path = path / "notice.json"
        self.interruption = Interruption(
            grace=31,
            notice_path=self.path,
            ticks=self.clock,
            clock=lambda: self.clock() + 5000,
        )

    def written(self) -> dict[str, object]:
        content: dict[str, object] = json.loads(self.path.read_text())
        return content


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def spot(deadline: float | None, kind: str = "spot") -> Notice:
    return Notice(kind=kind, action="terminate", deadline=deadline, detail=f"{kind} notice")  # type: ignore[arg-type]


def test_a_signal_gives_the_platforms_grace(setting: Setting) -> None:
    assert setting.interruption.on_signal("SIGTERM", flush=0)
    assert setting.interruption.stop.seconds_left() == 30
    assert setting.written() == {"kind": "signal", "stop": True, "stop_by": 6024, "deadline": 6030}


def test_a_spot_notice_gives_the_time_it_names_less_a_margin(setting: Setting) -> None:
    assert setting.interruption.on_notice(spot(6000 + 120), flush=0)
    assert setting.interruption.stop.seconds_left() == 118
    assert setting.interruption.kind == "spot"


@pytest.mark.parametrize(("ahead", "seconds"), [(5, 4), (0.1, 0.8), (-50, 0.8), (10_000, 118)])
def test_a_notice_that_is_near_past_or_absurd_is_held_within_bounds(
    ahead: float, seconds: float, setting: Setting
) -> None:
    setting.interruption.on_notice(spot(6000 + ahead), flush=0)
    assert setting.interruption.stop.seconds_left() == pytest.approx(seconds)


def test_a_notice_without_a_time_gives_the_grace(setting: Setting) -> None:
    setting.interruption.on_notice(spot(None, "host"), flush=0)
    assert setting.interruption.stop.seconds_left() == 30


def test_a_signal_after_a_notice_brings_the_end_forward_and_stops_the_script_once(setting: Setting) -> None:
    assert setting.interruption.on_notice(spot(6000 + 120), flush=0)
    setting.clock.now += 10
    assert not setting.interruption.on_signal("SIGTERM", flush=0)
    assert setting.interruption.stop.seconds_left() == 30
    assert setting.interruption.kind == "spot"


def test_a_notice_after_a_signal_does_not_push_the_end_back(setting: Setting) -> None:
    setting.interruption.on_signal("SIGTERM", flush=0)
    setting.interruption.on_notice(spot(6000 + 120), flush=0)
    assert setting.interruption.stop.seconds_left() == 30


def test_a_second_signal_hurries_the_script_and_a_double_one_does_not(setting: Setting) -> None:
    setting.interruption.on_signal("SIGTERM", flush=0)
    deadline = setting.interruption.deadline
    setting.clock.now += 0.5
    setting.interruption.on_signal("SIGTERM", flush=0)
    assert setting.interruption.deadline == deadline
    setting.clock.now += 2
    setting.interruption.on_signal("SIGTERM", flush=0)
    assert setting.interruption.deadline is not None
    assert setting.interruption.deadline.stop_by == setting.clock.now + 2
    assert setting.interruption.stop.seconds_left() == 27.5


def test_a_rebalance_recommendation_is_written_for_the_script_and_stops_nothing(setting: Setting) -> None:
    assert not setting.interruption.on_notice(spot(None, "rebalance"), flush=0)
    assert setting.interruption.deadline is None
    assert setting.written()["stop"] is False
    setting.interruption.on_signal("SIGTERM", flush=0)
    setting.interruption.on_notice(spot(None, "rebalance"), flush=0)
    assert setting.written()["stop"] is True
