"""Long lists of names and errors take a few words of the log."""

from holdfast.wording import by_kind, counted, first_few, listed


def test_one_thing_is_not_many() -> None:
    assert [counted(number, "file") for number in (0, 1, 2100)] == ["0 files", "1 file", "2,100 files"]


def test_a_few_names_are_all_named() -> None:
    assert listed(["a", "it's"]) == """'a', "it's\""""
    assert listed([]) == ""


def test_of_many_names_the_first_are_named_and_the_others_counted() -> None:
    names = {f"step-{number}": number for number in range(3000)}
    text = listed(names, lambda name: f"{name} ({names[name]:,})")
    assert text == "step-0 (0), step-1 (1), step-2 (2), step-3 (3), step-4 (4) and 2,995 more"


def test_of_many_sentences_the_first_are_shown_and_the_others_counted() -> None:
    assert first_few(["one", "two"]) == ["one", "two"]
    assert first_few(["the same"] * 8) == ["the same"] * 5 + ["… and 3 more like these"]


def test_another_kind_of_trouble_is_not_hidden_behind_many_of_the_first() -> None:
    reasons: dict[str, Exception] = {f"file-{number}": ValueError("cut") for number in range(9)}
    reasons["last"] = OSError("refused")
    assert by_kind(reasons, "{!r}: {}".format)[-2:] == ["… and 4 more like these", "'last': refused"]
