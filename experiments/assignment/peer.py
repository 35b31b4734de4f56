"""SigProfilerAssignment on a catalogue, in an environment of its own.

    python peer.py FOLDER        # FOLDER as `python assign.py prepare FOLDER` makes it

Its defaults, with the signatures of FOLDER in place of COSMIC's, on one core.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"


def main(folder: Path) -> None:
    """Fit every catalogue of the folder, and write what it cost."""
    from SigProfilerAssignment import Analyzer

    for catalogue in sorted(folder.glob("*.catalogue.txt")):
        name = catalogue.name.removesuffix(".catalogue.txt")
        begin = time.process_time()
        Analyzer.cosmic_fit(
            str(catalogue), str(folder / name), input_type="matrix", cpu=1,
            signature_database=str(folder / f"{name}.signatures.txt"),
            make_plots=False, sample_reconstruction_plots=False, export_probabilities=False,
        )  # fmt: skip
        (folder / f"{name}.seconds").write_text(f"{time.process_time() - begin:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
