"""The errors as people see them: one sentence, its causes and a hint."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence

from sensorsync.console import logs
from sensorsync.console.escape import printable
from sensorsync.errors import Problem

log = logging.getLogger(__name__)


def format_with_causes(error: BaseException) -> str:
    """Return the error's sentence and those of its causes that add something new."""
    sentences = [str(error).strip() or type(error).__name__]
    for cause in _causes(error):
        text = str(cause).strip() or type(cause).__name__
        if not any(text in sentence for sentence in sentences):
            sentences.append(text)
    joined = ". Cause: ".join(sentence.rstrip(".") for sentence in sentences)
    return joined if joined.endswith("?") else f"{joined}."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that this one was raised `from`.

    An error that merely occurred while another was handled is not a cause of it.
    """
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def print_problems(problems: Sequence[Problem]) -> None:
    """Write problems to stderr: as text, or as log records when stderr carries JSON lines."""
    for problem in problems:
        if logs.is_json():
            extra = {"event": "problem", "code": problem.code, "hint": problem.hint}
            log.error("%s", problem.message, extra=extra)
        else:
            sys.stderr.write(_format_problem(problem, color=logs.use_color(sys.stderr, os.environ)))
    sys.stderr.flush()


def _format_problem(problem: Problem, *, color: bool) -> str:
    label = "\x1b[1;31mError:\x1b[0m" if color else "Error:"
    hint = f"  Hint: {printable(problem.hint)}\n" if problem.hint else ""
    excerpt = "".join(f"    {printable(line)}\n" for line in problem.excerpt.split("\n")) if problem.excerpt else ""
    return f"{label} {printable(problem.message)}\n{excerpt}{hint}"
