"""Read the ``config.json`` that comes with published weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from marssep_jax.checks import require

T = TypeVar("T")


def require_positive(record: Any, *, may_be_zero: tuple[str, ...] = ()) -> None:
    """Refuse a record of sizes one of which is not above 0.

    Raises:
      ValueError: it is not.
    """
    for name, value in vars(record).items():
        for number in value if isinstance(value, tuple) else (value,):
            require(number > 0 or name in may_be_zero, name, value, "> 0")


def require_fixed(
    section: Mapping[str, Any], fixed: Mapping[str, Any], prefix: str = ""
) -> None:
    """Refuse a variant that is not implemented; what is left out is not one.

    Raises:
      ValueError: a key of ``fixed`` has another value.
    """
    for key, expected in fixed.items():
        value = section.get(key, expected)
        require(value == expected, prefix + key, value, repr(expected))


def read_fields(
    kind: type[T],
    section: Mapping[str, Any],
    fields: Mapping[str, str],
    prefix: str = "",
) -> T:
    """Build a record whose fields have defaults.

    Args:
      kind: a dataclass.
      section: the file or a part of it.
      fields: published name to ours.
      prefix: names the part in a message.

    Raises:
      ValueError: a value that is none of the field's type, or that the record
        refuses.
    """
    types: dict[str, Any] = {
        field.name: type(field.default)
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    }
    values = {}
    for published, ours in fields.items():
        if published in section:
            value = section[published]
            try:
                # JSON has lists for tuples and may write an integer as 4.0.
                values[ours] = types[ours](value)
                exact = isinstance(value, list) or values[ours] == value
            except (TypeError, ValueError):
                exact = False
            require(exact, prefix + published, value, types[ours].__name__)
    return kind(**values)
