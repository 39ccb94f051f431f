"""What one visitor of the page may ask of the machine."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on uploads, recordings and what waits.

    Attributes:
      upload_bytes: of one request, its files together.
      length_s: of the mixture, and of a clip that is asked with.
      num_values: samples times channels of a recording; a small file can claim a
        great many.
      requests: uploading, waiting and running together; one runs at a time.
      items: of one query.
      letters: of one text.
      upload_s: for an upload to arrive.
      kept_s: for the page to fetch its results.
    """

    upload_bytes: int = 100_000_000
    length_s: float = 600.0
    num_values: int = 1 << 27
    requests: int = 8
    items: int = 8
    letters: int = 500
    upload_s: float = 300.0
    kept_s: float = 120.0
