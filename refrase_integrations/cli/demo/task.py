"""The demo's task and its tools: plain functions, which every framework takes as they are."""

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Annotated, Literal

TASK = (
    "How many days are there from 2025-07-11 to 2026-11-23? What is (17.5 + 4) * 12? "
    "And convert 72 fahrenheit to celsius."
)


Day = Annotated[str, "A date, as YYYY-MM-DD."]
Unit = Literal["fahrenheit", "celsius"]


def days_between(start: Day, end: Day) -> int:
    """Count the days from a start date to an end date."""
    return (date.fromisoformat(end) - date.fromisoformat(start)).days


def calculate(expression: Annotated[str, "Numbers, + - * / and parentheses, such as (2 + 3) * 4."]) -> float:
    """Work out an arithmetic expression."""
    return _value(ast.parse(expression, mode="eval").body)


def convert_temperature(value: float, unit: Unit, to: Annotated[Unit, "The unit to convert it to."]) -> float:
    """Convert a temperature from one unit to another."""
    celsius = (value - 32) / 1.8 if unit == "fahrenheit" else value
    return round(celsius * 1.8 + 32 if to == "fahrenheit" else celsius, 2)


TOOLS = (days_between, calculate, convert_temperature)

_OPERATIONS: Mapping[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.operand))
    raise ValueError("only numbers, + - * / and parentheses")
