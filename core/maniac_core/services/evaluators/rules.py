"""Rules that an evaluator must meet to be stored. Its code is only parsed, never run."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.evaluators import Code, Evaluator, Judge
from maniac_core.services.routing.containers import KNOWN_APIS

ENTRY_POINTS = ("run_evaluation", "evaluate")
"""Names that the function may have; if both are defined, the first one counts."""
MAX_SOURCE = 64 * 1024
"""Characters of source. Parsing it holds up everything else: at most for some 0.15 s."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME = 128
_MAX_REQUIREMENT = 500


def check_evaluator(evaluator: Evaluator) -> None:
    """Check all that can be seen from the evaluator alone.

    Raises:
        GatewayError: VALIDATION_ERROR naming every invalid field.
    """
    violations = [
        Violation(("body", *loc), message, kind) for loc, message, kind in _problems(evaluator)
    ]
    if violations:
        raise invalid(*violations)


def invalid(*violations: Violation) -> GatewayError:
    """Return the error for invalid fields."""
    first = violations[0]
    field = str(first.loc[1])
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{field} {first.message}.",
        param=field,
        violations=violations,
    )


_Problem = tuple[tuple[str | int, ...], str, str]


def _problems(evaluator: Evaluator) -> Iterator[_Problem]:
    name = evaluator.name
    if not 1 <= len(name) <= _MAX_NAME:
        yield ("name",), f"must have 1 to {_MAX_NAME} characters", "value_error"
    elif name != name.strip() or _CONTROL.search(name):
        yield ("name",), "must not have blanks at its ends or control characters", "value_error"
    if evaluator.api is not None and evaluator.api not in KNOWN_APIS:
        yield ("api",), "is unknown", "enum"
    if evaluator.pass_threshold is not None and not math.isfinite(evaluator.pass_threshold):
        yield ("pass_threshold",), "must be a finite number", "finite_number"
    if isinstance(evaluator.rule, Judge):
        yield from _judge_problems(evaluator.rule)
    else:
        yield from _code_problems(evaluator.rule)


def _judge_problems(judge: Judge) -> Iterator[_Problem]:
    for field in ("model", "prompt"):
        if not getattr(judge, field):
            yield (field,), "is required for a judge", "missing"


def _code_problems(code: Code) -> Iterator[_Problem]:
    for index, requirement in enumerate(code.requirements):
        if not requirement.strip() or len(requirement) > _MAX_REQUIREMENT:
            message = f"must have 1 to {_MAX_REQUIREMENT} characters"
            yield ("requirements", index), message, "value_error"
        elif _CONTROL.search(requirement):
            yield ("requirements", index), "must be one line", "value_error"
    if not code.source:
        yield ("source",), "is required for code", "missing"
    elif (problem := source_problem(code.source)) is not None:
        yield ("source",), problem, "value_error"


def source_problem(source: str) -> str | None:
    """Return what is wrong with the source of a code evaluator, or None. It is parsed and not run."""
    if len(source) > MAX_SOURCE:
        return f"must have at most {MAX_SOURCE} characters"
    try:
        with warnings.catch_warnings():
            # They would go to the log, with a line of the source.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as err:
        where = f"line {err.lineno}: " if err.lineno else ""
        return f"is not valid Python: {where}{err.msg}"
    except (ValueError, RecursionError, MemoryError):
        # Some versions of the parser raise this for a zero byte, and for code that is nested too deeply.
        return "is not valid Python, or is nested too deeply"
    for name in ENTRY_POINTS:
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                if _takes_one(statement.args):
                    return None
                return f"must define {name} with one argument, the item"
            if name in _names_bound_by(statement):
                return None
    return "must define the function run_evaluation(item), or evaluate(item), on its top level"


def _takes_one(arguments: ast.arguments) -> bool:
    """Whether it can be called with exactly one positional argument."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    return (
        required <= 1
        and (positional >= 1 or arguments.vararg is not None)
        and all(default is not None for default in arguments.kw_defaults)
    )


def _names_bound_by(statement: ast.stmt) -> set[str]:
    """Return the names that an assignment or an import gives to something, which may be a function."""
    match statement:
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name for alias in aliases}
    return set()
