r"""Compare the estimators of the reward's gradient, from one supervised model.

Examples:
  python -m experiments.gradients --config=experiments/configs/quickstart.py:score \
      --config.start.separator=runs/base --json=gradients.json

One batch of training mixtures is asked for the gradient of its expected reward by the
separator's parameters, again and again with other masks. The reference is the mean of
many pathwise gradients of the same policy, the paper's reference that of independent
bins. For each policy and estimator:

  cos        of one estimate with the reference, mean over estimates
  cos mean   of the mean of all estimates: near 1 without bias, given enough of them
  agreement  cosine of two estimates with each other
  cos paper  of the reference with that of independent bins: what the policy itself
             changes of the goal
  seconds    of one estimate, the least of all
"""

import pathlib

from absl import flags

from experiments import command


def main() -> None:
    """Measure what the flags name."""
    from experiments.settings import resolve

    values = flags.FLAGS
    settings = resolve(values.config)
    from experiments import gradient_table
    from experiments.provenance import machine, versions
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json

    check_json(values.json)
    cases = gradient_table.CASES[: 2 if values.quick else None]
    rows = gradient_table.measure(
        settings, cases, values.estimates, values.paths, announce=print
    )
    print(gradient_table.markdown(rows))
    if values.json:
        record = {"rows": rows, "estimates": values.estimates, "paths": values.paths}
        record |= {"machine": machine(), "versions": versions()}
        write_json(pathlib.Path(values.json), record)


if __name__ == "__main__":
    command.define_config_flag()
    flags.DEFINE_integer("estimates", 16, "Estimates of each kind.", lower_bound=2)
    flags.DEFINE_integer("paths", 64, "Gradients in a reference.", lower_bound=2)
    flags.DEFINE_bool("quick", False, "The first two estimators alone.")
    flags.DEFINE_string("json", None, "Write the rows to this file.")
    command.run(main)
