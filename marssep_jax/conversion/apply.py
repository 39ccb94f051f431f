"""Turn published tensors into our parameters, and say what does not fit.

Nothing is read to find out whether a checkpoint fits; what does fit is read and
converted one parameter at a time.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from marssep_jax.conversion.rules import TRANSFORMS, Rule

# Parameters that must be copied are copied in pieces of about this size.
BLOCK_BYTES = 1 << 25
SHOWN = 3


class Misshapen(NamedTuple):
    """A tensor that does not fit the parameter it belongs to."""

    key: str
    target: str
    found: str
    expected: str


class KeyReport(NamedTuple):
    """What became of every key and every parameter.

    Attributes:
      num_expected: parameters of the architecture.
      num_converted: those that the source has, in the right shape.
      missing: paths of parameters that the source lacks.
      extra: keys that no rule knows.
      misshapen: tensors of another shape or kind.
      dropped: keys that are known and not needed.
    """

    num_expected: int
    num_converted: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[Misshapen, ...]
    dropped: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every parameter is there and nothing else."""
        return not (self.missing or self.extra or self.misshapen)

    def summary(self) -> str:
        """Return the misfits in one line: numbers, and the first few of each."""
        wrong = [f"{m.key} is {m.found}, not {m.expected}" for m in self.misshapen]
        kinds = (
            (self.missing, "missing"),
            (wrong, "of another shape"),
            (self.extra, "unknown"),
        )
        parts = [f"{self.num_converted} of {self.num_expected} parameters found"]
        for names, what in kinds:
            if names:
                parts.append(f"{len(names)} {what}: {_few(names)}")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        rows = [misshapen._asdict() for misshapen in self.misshapen]
        return self._asdict() | {"misshapen": rows}


class MismatchError(ValueError):
    """Weights that are not those of the architecture; ``report`` lists all of it."""

    def __init__(self, report: KeyReport) -> None:
        """Make the one-line message."""
        super().__init__(report.summary())
        self.report = report


class Converted(NamedTuple):
    """Parameters that are converted while they are read."""

    report: KeyReport
    num_bytes: int
    arrays: Callable[[], Iterator[tuple[str, np.ndarray]]]
    """Yields (path, array) in the order of the tree; an array may be a view of the
    source, which stays valid."""

    def tree(self) -> dict[str, Any]:
        """Return all arrays as one tree of nested dicts."""
        return traverse_util.unflatten_dict(dict(self.arrays()), sep="/")


def apply_rules(
    rules: Sequence[Rule],
    source: Mapping[str, np.ndarray],
    expected: Any,
    dtype: Any = None,
) -> Converted:
    """Find for every parameter the tensors that it is made of.

    Args:
      rules: of the architecture.
      source: published tensors by name.
      expected: nested dicts of ``jax.ShapeDtypeStruct``, as ``jax.eval_shape``
        returns them for the architecture's ``init``.
      dtype: of floating parameters; None takes the expected ones.

    Raises:
      MismatchError: parameters missing, of another shape, or too many.
      RuntimeError: rules that contradict each other.
    """
    places, dropped, extra = _matched(rules, source)
    wanted = traverse_util.flatten_dict(expected, sep="/")
    extra += [key for path in places.keys() - wanted.keys() for key, _ in places[path]]
    missing: list[str] = []
    misshapen: list[Misshapen] = []
    plans: dict[str, tuple[list[tuple[str, Rule]], jax.ShapeDtypeStruct]] = {}
    for path, leaf in wanted.items():
        pieces = places.get(path, [])
        lacking = _lacking(path, pieces)
        wrong = [] if lacking else _misfits(path, pieces, source, leaf)
        missing += lacking
        misshapen += wrong
        if not lacking and not wrong:
            plans[path] = (pieces, _stored_as(leaf, dtype))
    report = KeyReport(
        len(wanted),
        len(plans),
        tuple(missing),
        tuple(sorted(extra)),
        tuple(misshapen),
        tuple(dropped),
    )
    if not report.fits:
        raise MismatchError(report)

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for path, (pieces, leaf) in plans.items():
            parts = [_transformed(source[key], rule) for key, rule in pieces]
            yield path, _joined(parts, leaf, getattr(source, "release", _nothing))

    num_bytes = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for _, leaf in plans.values()
    )
    return Converted(report, num_bytes, arrays)


def _matched(
    rules: Sequence[Rule], source: Mapping[str, np.ndarray]
) -> tuple[dict[str, list[tuple[str, Rule]]], list[str], list[str]]:
    """Return keys and rules by target, keys that are dropped, keys without a rule."""
    patterns = [(re.compile(rule.pattern), rule) for rule in rules]
    places: dict[str, list[tuple[str, Rule]]] = {}
    dropped, extra = [], []
    for key in source:
        hits = [(hit, rule) for p, rule in patterns if (hit := p.fullmatch(key))]
        if len(hits) > 1:
            both = " and ".join(repr(rule.pattern) for _, rule in hits[:2])
            raise RuntimeError(f"key is {key!r}, expected one rule for it, not {both}")
        if not hits:
            extra.append(key)
        elif not hits[0][1].target:
            dropped.append(key)
        else:
            hit, rule = hits[0]
            places.setdefault(hit.expand(rule.target), []).append((key, rule))
    for path, pieces in places.items():
        pieces.sort(key=lambda piece: piece[1].part)
        parts = [rule.part for _, rule in pieces]
        if len(set(parts)) < len(parts) or len({count for _, count in parts}) > 1:
            keys = " and ".join(repr(key) for key, _ in pieces)
            raise RuntimeError(f"target is {path!r}, expected one source, not {keys}")
    return places, dropped, extra


def _lacking(path: str, pieces: Sequence[tuple[str, Rule]]) -> list[str]:
    if not pieces:
        return [path]
    count = pieces[0][1].part[1]
    there = {rule.part[0] for _, rule in pieces}
    lacking = [index for index in range(count) if index not in there]
    return [f"{path} (part {index + 1} of {count})" for index in lacking]


def _misfits(
    path: str,
    pieces: Sequence[tuple[str, Rule]],
    source: Mapping[str, np.ndarray],
    leaf: jax.ShapeDtypeStruct,
) -> list[Misshapen]:
    """Compare shapes and kinds; a part has its share of the last axis."""
    wanted = tuple(leaf.shape)
    count = len(pieces)
    share = (*wanted[:-1], wanted[-1] // count) if count > 1 else wanted
    found = []
    for key, rule in pieces:
        tensor = source[key]
        try:
            fits = _transformed(tensor, rule).shape == share
        except (ValueError, IndexError):  # an axis that it does not have
            fits = False
        if not fits or _kind(tensor.dtype) is not _kind(leaf.dtype):
            shape = f"{leaf.dtype} {list(share)} of {path}"
            shown = f"{tensor.dtype} {list(tensor.shape)}"
            found.append(Misshapen(key, path, shown, shape))
    return found


def _transformed(tensor: np.ndarray, rule: Rule) -> np.ndarray:
    return TRANSFORMS[rule.transform](tensor)


def _kind(dtype: Any) -> Any:
    """Return the family of types among which values may be converted."""
    families = (jnp.floating, jnp.integer, jnp.bool_, jnp.complexfloating)
    return next(family for family in families if jnp.issubdtype(dtype, family))


def _stored_as(leaf: jax.ShapeDtypeStruct, dtype: Any) -> jax.ShapeDtypeStruct:
    if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype))


def _joined(
    parts: Sequence[np.ndarray], leaf: jax.ShapeDtypeStruct, release: Callable[[], None]
) -> np.ndarray:
    """Lay parts side by side in the wanted type; a view where that is enough."""
    if len(parts) == 1 and parts[0].dtype == leaf.dtype:
        return parts[0]
    if len(leaf.shape) < 2:
        return (
            np.concatenate([np.atleast_1d(part) for part in parts], -1)
            .astype(leaf.dtype)
            .reshape(leaf.shape)
        )
    joined = np.empty(leaf.shape, leaf.dtype)
    step = max(1, BLOCK_BYTES * leaf.shape[0] // max(joined.nbytes, 1))
    for start in range(0, leaf.shape[0], step):
        rows = slice(start, start + step)
        joined[rows] = np.concatenate([part[rows] for part in parts], -1)
        release()
    return joined


def _nothing() -> None:
    """Stand in for the release of sources that hold nothing."""


def _few(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
