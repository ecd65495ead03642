"""The suites of the tables: which rows each has, on which seeds, and what its page says."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxrl_po.config import Config
from tasks import mujoco, ppo_paper


class Suite(NamedTuple):
    """Rows that are one page."""

    name: str
    title: str
    text: str  # what the page says of them
    rows: Mapping[str, Config]  # by TASK:METHOD:SETTING
    first_seed: int = 0
    published: Mapping[str, Mapping[str, float]] = {}  # method -> task -> its best epoch's return
    columns: Mapping[str, float] = {}  # setting -> a published score over all tasks


_ALL = (
    Suite(
        "mujoco",
        "MuJoCo: five methods, one setting each",
        "One setting of each method for all tasks, chosen on other seeds and two of the tasks\n"
        "([what was tried](tables_mujoco_tuning.md)).",
        mujoco.ROWS,
        published=mujoco.PUBLISHED,
    ),
    Suite(
        "mujoco_tuning",
        "MuJoCo: what was tried",
        "Seeds from 100 on, which no other table has, and half of the budget. What was chosen by "
        "it\nis the setting of [the table](tables_mujoco.md).",
        mujoco.TUNING,
        first_seed=100,
    ),
    Suite(
        "mujoco_again",
        "MuJoCo: rows once more",
        "Rows of [the table](tables_mujoco.md) by the same command on other seeds, to see whether "
        "it\ncan be repeated.",
        mujoco.ROWS,
        first_seed=10,
    ),
    Suite(
        "ppo_paper",
        "Table 1 of the PPO paper",
        "Surrogates side by side (arXiv:1707.06347, table 1).",
        ppo_paper.ROWS,
        columns=ppo_paper.PUBLISHED,
    ),
)
SUITES = {suite.name: suite for suite in _ALL}
