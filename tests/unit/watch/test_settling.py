"""Which files are settled, and which may be torn after a kill."""

import math

from holdfast.local.scan import FileState
from holdfast.watch.settling import Killed, Settling


def state(path: str, size: int = 1, mtime_ns: int = 0) -> FileState:
    return FileState(path, size, mtime_ns, 0, 1, 0o644)


def waiting(settling: Settling, now: float, *paths: str) -> dict[str, float]:
    return settling.unsettled(paths, now)


def test_a_closed_file_settles_soon() -> None:
    settling = Settling()
    settling.written("a", 10)
    settling.closed("a", 11)
    settling.observe({"a": state("a")}, 11)
    assert waiting(settling, 11.1, "a").keys() == {"a"}
    assert waiting(settling, 11.4, "a") == {}


def test_an_open_file_never_settles() -> None:
    settling = Settling()
    settling.written("log", 10)
    assert waiting(settling, 10_000, "log") == {"log": math.inf}


def test_a_file_without_a_close_event_settles_when_it_has_been_quiet() -> None:
    settling = Settling()
    settling.observe({"a": state("a", 1)}, 10)
    settling.observe({"a": state("a", 2)}, 11)
    assert waiting(settling, 12.5, "a").keys() == {"a"}
    settling.observe({"a": state("a", 2)}, 13)
    assert waiting(settling, 13.1, "a") == {}


def test_a_change_without_an_event_starts_the_quiet_time_anew() -> None:
    settling = Settling()
    settling.closed("a", 10)
    settling.observe({"a": state("a", 1)}, 10)
    settling.observe({"a": state("a", 2)}, 20)
    assert waiting(settling, 21, "a").keys() == {"a"}
    assert waiting(settling, 22.1, "a") == {}


def test_a_file_is_quiet_by_itself_while_its_directory_still_grows() -> None:
    settling = Settling()
    settling.closed("step/a", 10)
    settling.written("step/b", 12)
    assert waiting(settling, 12, "step/a", "step/b").keys() == {"step/a", "step/b"}
    assert settling.is_quiet("step/a", 12)
    assert not settling.is_quiet("step/a", 10.1)
    assert not settling.is_quiet("step/b", 100)


def test_a_reopened_file_is_unsettled_again() -> None:
    settling = Settling()
    settling.closed("a", 10)
    settling.written("a", 20)
    assert waiting(settling, 30, "a") == {"a": math.inf}


def test_after_dropped_events_an_open_file_can_settle_by_being_quiet() -> None:
    settling = Settling()
    settling.written("a", 10)
    settling.forget_open()
    assert waiting(settling, 12.1, "a") == {}


def test_a_deleted_file_is_forgotten() -> None:
    settling = Settling()
    settling.written("a", 10)
    settling.gone("a", 10)
    assert waiting(settling, 15.1, "a") == {}
    settling.written("b", 10)
    settling.observe({}, 11)
    assert waiting(settling, 16.1, "b") == {}


def test_deletions_alone_settle_after_the_last_one_and_deletions_beside_a_new_file_at_once() -> None:
    settling = Settling()
    settling.observe({name: state(name) for name in "abc"}, 1)
    settling.gone("a", 10)
    settling.gone("b", 14)
    assert waiting(settling, 15.1, "a", "b").keys() == {"a", "b"}
    settling.written("train.log", 15)
    settling.closed("train.log", 15)
    assert waiting(settling, 16, "a", "b", "train.log").keys() == {"a", "b"}
    settling.renamed("new.tmp", "new", 16)
    assert waiting(settling, 16.1, "a", "b", "new") == {}
    settling.gone("c", 20)
    assert waiting(settling, 25.1, "c") == {}


def test_a_file_that_was_not_open_at_our_signal_is_whole_however_new_it_is() -> None:
    settling = Settling()
    settling.closed("a", 99.99)
    assert settling.torn(["a"], Killed(at=100, seen=True)) == []


def test_a_file_that_a_killed_process_had_open_may_be_torn() -> None:
    settling = Settling()
    settling.closed("a", 50)
    killed = Killed(at=100, seen=True, writing=frozenset({"a"}))
    assert settling.torn(["a", "b"], killed) == ["a"]


def test_without_a_look_at_open_files_before_the_kill_only_what_had_settled_is_whole() -> None:
    settling = Settling()
    settling.closed("fresh", 99.9)
    settling.closed("old", 90)
    settling.written("never closed", 10)
    assert settling.torn(["fresh", "old", "never closed"], Killed(at=100)) == ["fresh", "never closed"]


def test_a_directory_that_changed_just_before_the_signal_may_be_torn_even_if_nothing_was_open() -> None:
    settling = Settling()
    settling.closed("step-1/a", 97)
    settling.closed("step-2/a", 90)
    settling.closed("by a handler/a", 100.1)
    paths = ["step-1/a", "step-2/a", "by a handler/a"]
    assert settling.torn(paths, Killed(at=100, seen=True)) == ["step-1/a"]
    # The script ended by itself, and only a process beside it died: it finished what it wrote.
    assert settling.torn(paths, Killed(at=100, seen=True, script_died=False)) == []


def test_a_directory_that_was_being_deleted_may_be_torn_too() -> None:
    settling = Settling()
    settling.gone("step-1/a", 97)
    assert settling.torn(["step-1/a"], Killed(at=100, seen=True)) == ["step-1/a"]


def test_what_was_renamed_into_place_is_whole() -> None:
    settling = Settling()
    settling.renamed(".tmp-step-1/a", "step-1/a", 99.99)
    settling.renamed(".b.tmp", "b", 99.99)
    assert settling.torn(["step-1/a", "b"], Killed(100)) == []


def test_a_deletion_holds_back_the_rest_of_its_checkpoint_for_a_moment() -> None:
    settling = Settling()
    settling.gone("step-1/a", 10)
    assert waiting(settling, 14.9, "step-1/b", "step-2/b").keys() == {"step-1/b"}
    assert waiting(settling, 15.1, "step-1/b") == {}


def test_a_directory_waits_for_the_shard_that_may_still_come() -> None:
    settling = Settling()
    settling.closed("step-1/a", 10)
    assert waiting(settling, 14, "step-1/a") == {"step-1/a": 1}
    settling.closed("step-1/b", 14)
    assert waiting(settling, 18, "step-1/a", "step-1/b").keys() == {"step-1/a", "step-1/b"}
    assert waiting(settling, 19.1, "step-1/a", "step-1/b") == {}


def test_a_log_that_is_never_closed_holds_back_nothing_but_itself() -> None:
    settling = Settling()
    settling.closed("run/model.ckpt", 10)
    settling.written("run/events.out.tfevents.1", 99)
    assert waiting(settling, 100, "run/model.ckpt", "run/events.out.tfevents.1") == {
        "run/events.out.tfevents.1": math.inf
    }
    killed = Killed(100, seen=True, writing=frozenset({"run/events.out.tfevents.1"}))
    assert settling.torn(["run/model.ckpt", "run/events.out.tfevents.1"], killed) == []


def test_a_directory_that_was_renamed_into_place_need_not_wait() -> None:
    settling = Settling()
    settling.closed("tmp-step-1/a", 10)
    settling.renamed("tmp-step-1/a", "step-1/a", 10.1)
    assert waiting(settling, 10.5, "step-1/a") == {}
    settling.renamed("step-2/a.tmp", "step-2/a", 10.1)  # inside one directory: others may follow
    assert waiting(settling, 10.5, "step-2/a").keys() == {"step-2/a"}


def test_a_change_without_an_event_may_have_been_before_the_signal() -> None:
    settling = Settling()
    settling.observe({"step/a": state("step/a")}, 10)
    killed = Killed(at=100, seen=True)
    settling.observe({"step/a": state("step/a"), "step/b": state("step/b")}, 100.5)
    assert settling.torn(["step/b"], killed) == ["step/b"], "no event says when it was written"
    settling.written("step/b", 101)
    settling.closed("step/b", 101)
    assert settling.torn(["step/b"], killed) == [], "a process that survived the signal finished it"


def test_weights_that_were_overwritten_just_before_their_json_was_torn_are_held_back_with_it() -> None:
    settling = Settling()
    settling.closed("old", 10)
    settling.closed("weights", 99)
    settling.renamed("x.tmp", "saved-with-a-rename", 99)
    settling.written("json", 99.5)
    killed = Killed(at=100, seen=True, writing=frozenset({"json"}))
    every = ["old", "weights", "saved-with-a-rename", "json"]
    assert settling.torn(every, killed, overwritten=every) == ["weights", "json"]
    assert settling.torn(every, killed) == ["json"], "old weights of another name do not belong to it"
    whole = settling.torn(every, killed, lambda path: path == "json", every)
    assert whole == [], "its format proves that it is whole"
