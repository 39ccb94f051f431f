"""Draw the roofline and the profile of a benchmark's report.

Examples:
  python -m experiments.benchmark --suite=roofline --json=roofline.json
  python -m experiments.roofline_chart --report=roofline.json --png=roofline.png

The report may come from another machine. Above are steps and layers under the limits
that were measured with them, below the seconds of each step by part.
"""

import pathlib

from absl import flags

from experiments import command

REPORT = flags.DEFINE_string("report", None, "Report with rows of roofline.")
PNG = flags.DEFINE_string("png", None, "Write the picture to this file.")
PRECISION = flags.DEFINE_string(
    "precision", None, "Of the rows; by default the first that was measured."
)


def main() -> None:
    """Draw what the flags name."""
    from experiments.benchmarks.compare import read_report
    from experiments.benchmarks.pictures import draw

    report_file, png = REPORT.value, PNG.value
    if not report_file or not png:
        raise ValueError(f"(report, png) is {(report_file, png)}, expected two files")
    draw(read_report(report_file, name="report"), pathlib.Path(png), PRECISION.value)
    print(f"wrote {PNG.value}")


if __name__ == "__main__":
    command.run(main)
