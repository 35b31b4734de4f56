"""Where the start of ``nmfnet-train`` goes: a table of ``python -X importtime``, by package.

python experiments/startup/run.py [statement]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

STATEMENT = "import nmfnet.run.train, nmfnet.models.convex_nmf, sklearn.datasets, sklearn.metrics"
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def times(statement: str) -> Counter[str]:
    """Seconds of every package's own modules; of torch by its largest parts."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found: Counter[str] = Counter()
    for microseconds, module in LINE.findall(told):
        package, _, rest = module.partition(".")
        part = rest.partition(".")[0]
        name = f"torch.{part}" if package == "torch" and part.startswith("_dynamo") else package
        found[name] += int(microseconds) / 1e6
    return found


def main() -> None:
    """Print the table."""
    found = times(sys.argv[1] if sys.argv[1:] else STATEMENT)
    print("| package | seconds |\n|---|---|")
    for name, seconds in found.most_common(14):
        print(f"| {name} | {seconds:.2f} |")
    print(f"| all {len(found)} | {sum(found.values()):.2f} |")


if __name__ == "__main__":
    main()
