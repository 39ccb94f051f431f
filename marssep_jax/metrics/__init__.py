"""How far an estimate is from its target: plain ratios and BSS-eval, in dB."""

from marssep_jax.metrics.bsseval import BssEval, bss_eval
from marssep_jax.metrics.ratios import (
    sdr,
    sdr_improvement,
    si_sdr,
    si_sdr_improvement,
)

__all__ = [
    "BssEval",
    "bss_eval",
    "sdr",
    "sdr_improvement",
    "si_sdr",
    "si_sdr_improvement",
]
