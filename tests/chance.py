"""The seed of all that tests leave to chance: by default another in each run, shown by what fails.

`NSRUN_SEED=N` repeats a run's choices. .ci/run has a fixed one: what chance finds is for runs without, not for whoever comes next.
"""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("NSRUN_SEED", str(random.SystemRandom().randrange(1 << 32))))
