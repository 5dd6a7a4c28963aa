"""JMESPath expressions (jmespath.org), compiled once. Plain paths become closures; the library's interpreter runs the others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError, ParseError
from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

from sensorsync.messages.reading.model import DecodeError

SearchFunction = Callable[[Any], Any]
Node = dict[str, Any]

_LONGEST_MESSAGE = 200
_INTERPRETER = TreeInterpreter()
"""The interpreter of all threads. It has no state of a search, so one is enough."""


class ExpressionError(ValueError):
    """A text that is not a JMESPath expression."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column
        """Position of the mistake, in characters from 0. None when it is not known. It can be the length of the text."""


class Expression:
    """A compiled expression. `search(document)` returns its value or None, and raises DecodeError. Thread-safe."""

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises ExpressionError."""
        self.text = text
        tree = _parse(text)
        steps = _steps(tree)
        self.is_plain_path = steps is not None
        """True when it only selects a part of the document. It computes nothing, and its cost does not grow with the document."""
        self.member_name = steps[0] if steps is not None and len(steps) == 1 and isinstance(steps[0], str) else None
        """The member that it selects, when it is only one name. Else None."""
        self.search: SearchFunction = _interpreter_search(text, tree) if steps is None else _path_search(steps)


def is_true(value: object) -> bool:
    """Return the truth of a value in JMESPath. Null, false, and the empty string, array and object are false. 0 is true."""
    return value is not None and value is not False and value not in ("", [], {})


# -- checking ----------------------------------------------------------------------------------------------------------


def _parse(text: str) -> Node:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an old way to write literals, which still works
            tree = cast(Node, jmespath.compile(text).parsed)
        nodes = list(_nodes(tree))
    except ParseError as error:
        column = len(text) if error.token_type is None else error.lex_position
        raise ExpressionError(_describe_parse_error(error), min(column, len(text))) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deep") from None
    except JMESPathError as error:
        raise ExpressionError("the expression is empty" if not text else str(error), 0) from None
    except ValueError as error:  # an index of thousands of digits
        raise ExpressionError(str(error)) from None
    for node in nodes:
        _check(node, text)
    return tree


def _describe_parse_error(error: ParseError) -> str:
    """Return the mistake in one sentence.

    The library's own text also shows the expression and a caret, which help only a reader who knows its line.
    """
    message = str(getattr(error, "message", None) or error.msg)
    if error.token_type is None:
        return "the expression ends too early"
    is_clear = any(word in message for word in ("Unknown token", "Unclosed", "literal"))
    return message if is_clear else f"{error.token_value!r} cannot stand here"


def _nodes(tree: Node) -> Iterator[Node]:
    yield tree
    for child in tree["children"]:
        if isinstance(child, dict):  # the bounds of a slice are numbers
            yield from _nodes(child)


def _check(node: Node, text: str) -> None:
    """Raise ExpressionError for a mistake that the library would find only with the first message."""
    if node["type"] == "function_expression":
        name, given = node["value"], len(node["children"])
        found = text.find(f"{name}(")
        column = found if found >= 0 else None
        if name not in Functions.FUNCTION_TABLE:
            raise ExpressionError(f"there is no function {name}()", column)
        signature = Functions.FUNCTION_TABLE[name]["signature"]
        variadic = bool(signature and signature[-1].get("variadic"))
        if given < len(signature) or (given > len(signature) and not variadic):
            least, wanted = "at least " if variadic else "", len(signature)
            plural = "" if wanted == 1 else "s"
            raise ExpressionError(f"{name}() takes {least}{wanted} argument{plural}, not {given}", column)
    elif node["type"] == "literal" and not _is_json(node["value"]):
        raise ExpressionError("a literal has NaN, Infinity or half a surrogate pair in it, which are no JSON")


def _is_json(value: object) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(_is_json(key) and _is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return not isinstance(value, float) or math.isfinite(value)


# -- searching ---------------------------------------------------------------------------------------------------------


def _steps(node: Node) -> list[str | int] | None:
    """Return the names and indices of a plain path in their order, or None for any other expression."""
    if node["type"] in {"current", "identity"}:
        return []
    if node["type"] in {"field", "index"}:
        return [node["value"]]
    if node["type"] not in {"subexpression", "index_expression"}:
        return None
    steps: list[str | int] = []
    for child in node["children"]:
        more = _steps(child)
        if more is None:
            return None
        steps += more
    return steps


def _path_search(steps: list[str | int]) -> SearchFunction:
    """Return the search of a plain path.

    Its result is null when a name is applied to a value other than an object, or an index to a value other than an array.
    """
    if not steps:
        return lambda document: document

    def search(document: Any) -> Any:
        for step in steps:
            if type(step) is str:
                if type(document) is not dict:
                    return None
                document = document.get(step)
            elif type(document) is list and -len(document) <= step < len(document):  # type: ignore[operator]
                document = document[step]  # type: ignore[index]
            else:
                return None
        return document

    return search


def _interpreter_search(text: str, tree: Node) -> SearchFunction:
    visit: Callable[..., Any] = _INTERPRETER.visit
    errors = (JMESPathError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)

    def search(document: Any) -> Any:
        try:
            return visit(tree, document)
        except errors as error:
            full = str(error)
            short = full if len(full) <= _LONGEST_MESSAGE else f"{full[:_LONGEST_MESSAGE]}..."
            raise DecodeError("mapping", f"{text}: {short}") from None

    return search
