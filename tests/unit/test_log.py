"""Secrets never appear in what the supervisor says."""

import pytest

from holdfast_entrypoint import log


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "WANDB_API_KEY",
        "HF_TOKEN",
        "DB_PASSWORD",
        "MY_SECRET",
        "AWS_ACCESS_KEY_ID",
    ],
)
def test_the_value_of_a_secret_variable_is_replaced(name: str) -> None:
    said = log.Redactor({name: "hunter2-value"})("denied for hunter2-value at s3://bucket")
    assert "hunter2" not in said
    assert said == "denied for *** at s3://bucket"


def test_one_secret_inside_another_leaves_nothing_visible() -> None:
    redact = log.Redactor({"A_KEY": "abcdef", "B_TOKEN": "abcdefghij"})
    assert redact("x abcdefghij y") == "x *** y"


def test_credentials_in_a_uri_are_replaced_wherever_they_come_from() -> None:
    redact = log.Redactor({})
    assert redact("cannot reach http://user:pass@host:9000/x") == "cannot reach http://***@host:9000/x"
    assert redact("it is s3://AKIA:abc/defSECRET@bucket/p") == "it is s3://***@bucket/p"
    assert redact("s3://bucket/a@b and s3://bucket/c") == "s3://bucket/a@b and s3://bucket/c"


def test_a_password_in_the_uri_of_a_variable_is_replaced_wherever_it_appears() -> None:
    redact = log.Redactor({"HTTP_PROXY": "http://me:p4ssword@proxy:3128"})
    assert redact("no answer from me:p4ssword@proxy") == "no answer from me:***@proxy"


def test_words_that_are_no_secrets_stay() -> None:
    redact = log.Redactor({"SM_MODEL_DIR": "/opt/ml/model", "API_KEY": "test"})
    assert redact("test /opt/ml/model") == "test /opt/ml/model"


def test_every_line_is_marked(capfd: pytest.CaptureFixture[str]) -> None:
    log.teller({})("one\ntwo")
    assert capfd.readouterr().err == "holdfast: one\nholdfast: two\n"
