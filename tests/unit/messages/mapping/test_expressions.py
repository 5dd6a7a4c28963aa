"""JMESPath: an invalid expression is reported with its place, and a compiled path gives the result of the library."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.expressions import Expression, ExpressionError, is_true
from sensorsync.messages.reading.model import DecodeError

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
_names = st.sampled_from(["a", "b", "c", "a b"])
_documents = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=20
)
_steps = st.lists(_names.map('"{}"'.format) | st.integers(-3, 3).map("[{}]".format), max_size=4)


def _path(steps: list[str]) -> str:
    text = ""
    for step in steps:
        text += step if step.startswith("[") or not text else f".{step}"
    return text or "@"


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 0, "empty"),
        ("a[", 2, "too early"),
        ("abs(", 4, "too early"),
        ("a..b", 2, "'.' cannot stand here"),
        ("a b", 2, "'b' cannot stand here"),
        ("a.0.b", 2, "0 cannot stand here"),
        ("a = 1", 2, "Unknown token '='"),
        ("'abc", 0, "Unclosed"),
        ("x && foo(x)", 5, "no function foo()"),
        ("length(a, b)", 0, "length() takes 1 argument, not 2"),
        ("not_null()", 0, "not_null() takes at least 1 argument, not 0"),
        ("join(',')", 0, "join() takes 2 arguments, not 1"),
        ("`NaN`", None, "no JSON"),
        ('{a: `"\\ud800"`}', None, "no JSON"),
        ('`{"a": [Infinity]}`', None, "no JSON"),
        ("(" * 5000, None, "too deep"),
        (f"[{'9' * 5000}]", None, "digits"),
    ],
)
def test_an_invalid_expression_is_reported_with_its_column(text: str, column: int | None, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text)
    assert caught.value.column == column
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["@", "a", '"a b"', "a.b", "[0]", "a[0].b[-1]", "@.a"])
def test_a_plain_path_is_compiled_to_a_closure(text: str) -> None:
    assert Expression(text).is_plain_path


@pytest.mark.parametrize(
    "text",
    ["a[*]", "a[]", "a.*", "a || b", "a.{b: b}", "a[0:2]", "a | b", "length(a)", "{a: a}", "'a'", "`1`", "a[?b]"],
)
def test_any_other_expression_is_evaluated_by_the_library(text: str) -> None:
    assert not Expression(text).is_plain_path


@given(_steps, _documents)
def test_a_compiled_path_gives_the_result_of_the_library(steps: list[str], document: Any) -> None:
    expression = Expression(_path(steps))
    assert expression.is_plain_path
    assert expression.search(document) == jmespath.search(_path(steps), document)


def test_only_a_single_name_is_a_member_name() -> None:
    assert Expression('"a b"').member_name == "a b"
    assert Expression("a.b").member_name is None
    assert Expression("[0]").member_name is None
    assert Expression("@").member_name is None


@given(_documents)
def test_truth_is_that_of_the_library(document: Any) -> None:
    assert is_true(document) == (jmespath.search("@ && `true`", document) is True)


def test_zero_is_true() -> None:
    assert is_true(0)
    assert not any(map(is_true, [None, False, "", [], {}]))


@pytest.mark.parametrize(
    ("text", "document"),
    [("length(a)", {"a": 1}), ("ceil(to_number(a))", {"a": "1e400"}), ("sort_by(@, &a)", [{"a": []}])],
)
def test_a_failing_function_is_a_decode_error_that_names_the_expression(text: str, document: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        Expression(text).search(document)
    assert caught.value.rejection.reason == "mapping"
    assert caught.value.rejection.message.startswith(f"{text}: ")


def test_a_decode_error_does_not_repeat_a_large_document() -> None:
    with pytest.raises(DecodeError) as caught:
        Expression("length(a)").search({"a": 1, **{f"m{n}": n for n in range(1000)}})
    with pytest.raises(DecodeError) as large:
        Expression("abs(@)").search(["x" * 100_000])
    assert len(caught.value.rejection.message) < 300
    assert len(large.value.rejection.message) < 300
