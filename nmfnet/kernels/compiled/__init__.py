"""Inner loops compiled by numba, on numpy views of CPU tensors.

Every array is component-major: a factor is (k, m), samples or features along the last axis, so that
the processor's vector lanes run over independent problems. The functions release the interpreter
lock (restarts run in threads), are compiled on first use (some seconds each) and then kept on disk.
Only :mod:`nmfnet.kernels` calls them, and each has a plain torch equal there as its oracle.
"""

import os

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels for a GPU run on a CPU, slowly: as Triton does, read once."""
