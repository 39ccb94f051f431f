"""Gamma's logarithm and its derivatives for arguments of 1 and more.

A Beta whose concentrations are at least 1 needs no others. Four steps of the
recurrence lead to 5 and beyond, where the asymptotic series (Abramowitz and Stegun
6.1.40, 6.3.18, 6.4.12) is good to 1e-9: two divisions and a logarithm, where the
general functions take reflections and series. Each is the next one's antiderivative,
so that gradients stay within these three.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Real = Float[Array, "*s"]

_SHIFT = 4
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def _series(square: Real, *coefficients: float) -> Real:
    """Return c_0 + c_1 s + c_2 s^2 and so on."""
    total = jnp.full_like(square, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = coefficient + square * total
    return total


def _rising(value: Real) -> Real:
    """Return x (x + 1) (x + 2) (x + 3), by u = x (x + 3)."""
    u = value * (value + 3.0)
    return u * (u + 2.0)


@jax.custom_jvp
def log_gamma(value: Real) -> Real:
    """Return ln Gamma(x), x >= 1."""
    y = value + _SHIFT
    inverse = 1.0 / y
    tail = inverse * _series(inverse**2, 1 / 12, -1 / 360, 1 / 1260, -1 / 1680)
    return (
        (y - 0.5) * jnp.log(y) - y + _HALF_LOG_TWO_PI + tail - jnp.log(_rising(value))
    )


@jax.custom_jvp
def digamma(value: Real) -> Real:
    """Return psi(x), the derivative of ln Gamma, x >= 1."""
    y = value + _SHIFT
    inverse = 1.0 / y
    square = inverse**2
    tail = square * _series(square, 1 / 12, -1 / 120, 1 / 252, -1 / 240)
    # 1 / x + ... + 1 / (x + 3) over their common denominator.
    u = value * (value + 3.0)
    steps = (2.0 * value + 3.0) * (2.0 * u + 2.0) / (u * (u + 2.0))
    return jnp.log(y) - 0.5 * inverse - tail - steps


@jax.custom_jvp
def trigamma(value: Real) -> Real:
    """Return psi'(x), x >= 1."""
    y = value + _SHIFT
    inverse = 1.0 / y
    square = inverse**2
    tail = inverse * _series(square, 1.0, 1 / 6, -1 / 30, 1 / 42, -1 / 30)
    # 1 / x^2 + 1 / (x + 3)^2 is (2 u + 9) / u^2; the two others alike.
    u = value * (value + 3.0)
    both = 1.0 / (u * (u + 2.0))
    outer, inner = both * (u + 2.0), both * u
    steps = (2.0 * u + 9.0) * outer**2 + (2.0 * u + 5.0) * inner**2
    return tail + 0.5 * square + steps


@log_gamma.defjvp
def _log_gamma_jvp(primals: tuple[Real], tangents: tuple[Real]) -> tuple[Real, Real]:
    (value,), (tangent,) = primals, tangents
    return log_gamma(value), digamma(value) * tangent


@digamma.defjvp
def _digamma_jvp(primals: tuple[Real], tangents: tuple[Real]) -> tuple[Real, Real]:
    (value,), (tangent,) = primals, tangents
    return digamma(value), trigamma(value) * tangent


@trigamma.defjvp
def _trigamma_jvp(primals: tuple[Real], tangents: tuple[Real]) -> tuple[Real, Real]:
    (value,), (tangent,) = primals, tangents
    return trigamma(value), jax.scipy.special.polygamma(2, value) * tangent
