"""Checks of settings, with one wording for all of them.

Every check raises a ValueError that names the setting, its value and what was expected.
"""


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Raise a ValueError in the words of every setting unless it holds."""
    if not ok:
        raise ValueError(f"{name} is {value!r}, expected {expected}")


def at_least(record: object, bound: float, *names: str) -> None:
    """Check numbers of a record, or every entry of its tuples, against a bound."""
    for name in names:
        value = getattr(record, name)
        entries = value if isinstance(value, tuple) else (value,)
        require(min(entries, default=bound) >= bound, name, value, f">= {bound}")


def positive(record: object, *names: str) -> None:
    """Check that numbers of a record, or entries of its tuples, are above zero."""
    for name in names:
        value = getattr(record, name)
        entries = value if isinstance(value, tuple) else (value,)
        require(min(entries, default=1) > 0, name, value, "> 0")


def share(record: object, *names: str) -> None:
    """Check that numbers of a record lie between 0 and 1."""
    for name in names:
        value = getattr(record, name)
        require(0 <= value <= 1, name, value, "in [0, 1]")


def one_of(record: object, name: str, choices: tuple[str, ...]) -> None:
    """Check that a name of a record is known."""
    value = getattr(record, name)
    *first, last = map(repr, choices)
    require(value in choices, name, value, f"{', '.join(first)} or {last}")


def check_type(name: str, value: object, default: object) -> None:
    """Check that a setting is of its default's type; a float may be a whole number.

    Raises:
      ValueError: it is not.
    """
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        for item in value:
            check_type(name, item, default[0])
        return
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    require(type(value) in kinds, name, value, f"a value of type {kinds[-1].__name__}")
