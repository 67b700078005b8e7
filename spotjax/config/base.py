"""What every section of a config is made of.  Imports neither JAX nor OpenCV."""

from typing import Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """A frozen dataclass with keyword arguments only that refuses unknown keys."""
    made = dataclass(cls, frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
    return cast(type[T], made)


ExpressionType = Literal["macro", "micro"]
EXPRESSION_TYPES: tuple[ExpressionType, ...] = ("macro", "micro")


def words(value: Any) -> Any:
    """`a,b` on the command line is ("a", "b"), `2,8` (2, 8) once their type is checked."""
    return [word for word in value.split(",") if word] if isinstance(value, str) else value
