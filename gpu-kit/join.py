"""Put the parts of a model that `run` left together: a model folder, to generate with or as a recipe's `start_from`.

python gpu-kit/join.py shards runs/from-gpu
"""

from __future__ import annotations

import sys
from pathlib import Path

from parts import join

if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    join(list(Path(sys.argv[1]).glob("model.*.part")), Path(sys.argv[2]))
