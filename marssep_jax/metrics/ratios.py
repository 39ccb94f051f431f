"""Signal-to-distortion ratios with closed forms: SDR, SI-SDR and improvements.

AudioSep's definitions, in dB over the last axis, without mean removal. Every
value is finite: see each function for what silence gives.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

SDR_POWER_FLOOR = 1e-10
"""AudioSep's floor under both mean powers of SDR."""


def _check_pair(name: str, signal: Array, target: Array) -> None:
    if signal.ndim < 1 or signal.shape[-1] < 1 or signal.shape != target.shape:
        raise ValueError(
            f"{name} has shape {signal.shape}, expected the target's {target.shape},"
            f" with at least one sample"
        )
    if not jnp.issubdtype(jnp.result_type(signal, target), jnp.floating):
        raise ValueError(f"{name} has dtype {signal.dtype}, expected floating")


def sdr(
    estimate: Float[Array, "*b t"], target: Float[Array, "*b t"]
) -> Float[Array, "*b"]:
    """Return SDR = 10 log10(mean s^2 / mean (s_hat - s)^2): the plain SNR.

    Both means are floored at 1e-10, so a silent target with a silent estimate gives
    0 dB, a silent target with an audible one a large negative value, and a perfect
    estimate of power p gives 10 log10(p) + 100 dB.

    Args:
      estimate: estimated waveforms.
      target: what they should be.

    Returns:
      dB, one value per waveform.

    Raises:
      ValueError: shapes differ, no samples, or not floating.
    """
    _check_pair("estimate", estimate, target)
    signal = jnp.mean(target**2, axis=-1)
    noise = jnp.mean((estimate - target) ** 2, axis=-1)
    return 10 * (
        jnp.log10(jnp.maximum(signal, SDR_POWER_FLOOR))
        - jnp.log10(jnp.maximum(noise, SDR_POWER_FLOOR))
    )


def si_sdr(
    estimate: Float[Array, "*b t"], target: Float[Array, "*b t"]
) -> Float[Array, "*b"]:
    """Return the scale-invariant SDR, 10 log10(|a s|^2 / |s_hat - a s|^2).

    a = <s_hat, s> / |s|^2, with the dtype's machine epsilon added to each side of
    both fractions, as AudioSep has it. A silent estimate therefore gives 0 dB, and
    a silent target a large negative value, unless both are silent (0 dB).

    Args:
      estimate: estimated waveforms.
      target: what they should be, up to a gain.

    Returns:
      dB, one value per waveform.

    Raises:
      ValueError: shapes differ, no samples, or not floating.

    Examples:
      >>> target = jnp.array([1.0, 1.0, 1.0, 1.0])
      >>> estimate = target + jnp.array([0.1, -0.1, 0.1, -0.1])
      >>> print(f"{si_sdr(5 * estimate, target):.2f} dB")
      20.00 dB
    """
    _check_pair("estimate", estimate, target)
    eps = jnp.finfo(jnp.result_type(estimate, target)).eps
    dot = jnp.sum(estimate * target, axis=-1, keepdims=True)
    gain = (dot + eps) / (jnp.sum(target**2, axis=-1, keepdims=True) + eps)
    scaled = gain * target
    signal = jnp.sum(scaled**2, axis=-1)
    noise = jnp.sum((estimate - scaled) ** 2, axis=-1)
    return 10 * (jnp.log10(signal + eps) - jnp.log10(noise + eps))


def sdr_improvement(
    estimate: Float[Array, "*b t"],
    target: Float[Array, "*b t"],
    *,
    mixture: Float[Array, "*b t"],
) -> Float[Array, "*b"]:
    """Return SDRi: the SDR of the estimate less that of the untouched mixture, dB."""
    return sdr(estimate, target) - sdr(mixture, target)


def si_sdr_improvement(
    estimate: Float[Array, "*b t"],
    target: Float[Array, "*b t"],
    *,
    mixture: Float[Array, "*b t"],
) -> Float[Array, "*b"]:
    """Return SI-SDRi: SI-SDR of the estimate less that of the mixture, dB."""
    return si_sdr(estimate, target) - si_sdr(mixture, target)
