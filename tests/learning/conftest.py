"""The settings under test are those of the experiments, which are scripts and no package."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "experiments"))
