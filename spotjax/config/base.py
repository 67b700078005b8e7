"""What every section of a config is made of.  Imports neither JAX nor OpenCV."""

import math
from typing import Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """A frozen dataclass with keyword arguments only that refuses unknown keys."""
    made = dataclass(cls, frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
    return cast(type[T], made)


def decoding(**options: Any) -> Any:
    """A `Field` of a system's section that says how its scores become intervals, no more.

    It may differ when a run goes on, is evaluated again, or is varied from its saved scores.
    """
    return Field(json_schema_extra={"changes": "intervals"}, **options)


def scoring(**options: Any) -> Any:
    """A `Field` of a system's section that changes scores, but no trained parameter."""
    return Field(json_schema_extra={"changes": "scores"}, **options)


def keys_that_change(kind: Any, *what: Literal["intervals", "scores"]) -> tuple[str, ...]:
    """The names of the `decoding` fields of a section, of the `scoring` fields, or of both."""
    extras = {name: field.json_schema_extra for name, field in kind.__pydantic_fields__.items()}
    return tuple(n for n, extra in extras.items() if extra in [{"changes": one} for one in what])


ExpressionType = Literal["macro", "micro"]
EXPRESSION_TYPES: tuple[ExpressionType, ...] = ("macro", "micro")


def words(value: Any) -> Any:
    """`a,b` on the command line is ("a", "b"), `2,8` (2, 8) once their type is checked."""
    return [word for word in value.split(",") if word] if isinstance(value, str) else value


def number(value: Any) -> Any:
    """A whole number as an int (7.0 is 7, so that both hash alike), others unchanged.

    Raises PydanticCustomError for what is no finite number.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int | float) or isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("number", "input should be a number such as 7 or 6.7")
    return value


def share(value: float) -> float:
    """A share below 1 or a whole number.  Raises PydanticCustomError for anything else."""
    if value > 1 and not isinstance(value, int):
        raise PydanticCustomError("share", "input should be a share below 1 or a whole number")
    return value
