"""The suites of the tables: which rows each has, on which seeds, and what its page says."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxrl_po.config import Config
from tasks import gymnax, minatar, mujoco, ppo_paper

MUJOCO = """\
One setting of each method for all tasks. Those of PPO and TRPO were chosen on seeds that are not in
this table and on HalfCheetah alone ([what was tried](tables_mujoco_tuning.md)); of the others
nothing was tried, and they have rows on four tasks so far (PPO-penalty three). "2048" is TRPO with
rollouts twice as long, looked into because it falls back on the pendula.

NPG's steps are as long as TRPO's and it falls back as TRPO does; VPG's shrink with its learning
rate, and it keeps both pendula. CPU s of PPO-penalty, NPG and VPG were taken while other studies
ran beside, and are not to be compared with those of the other rows.
"""
TUNING = """\
All that was tried to choose the settings of [the table](tables_mujoco.md): seeds from 100 on, which
it does not have, and half of its budget. PPO: the usual settings of MuJoCo (usual); a policy that
begins with a standard deviation of exp(-½) (narrow); with that, values and advantages estimated
anew before each epoch (recomputed); the same with as many steps of 64 environments (recomputed64).
TRPO: rollouts of 2048 or 1024 steps, and the narrow beginning. Chosen: recomputed, and 1024narrow.

Looked into after the table was there, and not chosen by. With the chosen setting TRPO falls back on
InvertedDoublePendulum after it has learned it. A trust region that shrinks linearly to a tenth
(shrinking) helped by no more than seeds differ; more steps a rollout did, the more the better.
Every step of TRPO is as long as its trust region is wide, however noisy the direction, also where
nothing is left to gain: [what it gains on fresh steps](fresh_gain.md). HalfCheetah learns less from
the fewer steps that 4096 and 8192 leave. The table has 2048 steps beside the chosen 1024. Best
epochs on this page are of sampled episodes in training, those of the table of greedy evaluations:
the two are not to be compared.
"""
AGAIN = """\
Rows of [the table](tables_mujoco.md) by the same command on other seeds, to see whether they can be
repeated. The table's best epochs are of greedy evaluations: where those of this page are of sampled
episodes in training, which is told above its rows, the two are not to be compared.
"""
PPO_PAPER = """\
Surrogates side by side (arXiv:1707.06347, table 1), in the paper's settings. What it leaves open is
chosen here: observations are normalised and rewards are not, advantages are standardised over the
rollout, Adam is annealed, no gradient is cut. Its rollout of 2048 steps is of 8 environments here.
"none" is PPO-penalty with β = 0: the surrogate alone.

**So far** three of the seven tasks, and two rows of Hopper; `--list` tells which wait. The paper's
average is over all seven, and is not to be compared with that of three. Beside its columns stands
TRPO by the same rollouts; of NPG two tasks have rows.

What agrees: of the clipped ones 0.2 and 0.3 do better than the surrogate alone. What does not: the
surrogate alone loses little here, where the paper's average is -0.39, and the others stand in
another order. The order is HalfCheetah's, and three seeds do not settle it: by nearly every
surrogate some runs stay near 1,500 there and others reach 2,500 to 4,000. The other two tasks
nearly all settings learn. CPU s of HalfCheetah's and Hopper's rows were taken while other studies
ran beside.
"""


MINATAR = """\
One setting of each method for all tasks, that of PPO from gymnax-blines; and of PPO with a
convolutional network one that is swept for each task on other seeds by
`python experiments/tables_sweeps.py`. Of TRPO nothing was tried.
"""
GYMNAX = """\
Of every task that gymnax 1.0.1 registers the suite has rows, but for MinAtar's, which have
[a table](tables_minatar.md) of 10M steps, and MNISTBandit, which the library refuses for it
downloads. All rows are measured, by `python experiments/tables.py --suite gymnax --seeds 10
--at-once 10`.

One setting of each method for all tasks ([what was tried](tables_gymnax_tuning.md)): with
observations normalised, but for FourRooms, which shows integers. One budget:
200,000 steps, and 50,000 of Pong, whose frames are large. Where something is hidden (MemoryChain,
MetaMaze, PointRobot and the bandits of misc) each method has a row with a GRU behind the same
layers, "gru", too. No episode is longer than 1,000 steps, and evaluations let each end.

Published are the best figures of RL Baselines3 Zoo (one run, deterministic) and, of Catch and
FourRooms, of gymnax-blines (one seed, sampled, an older gymnax), with settings for each task and
budgets of their own: PPO's CartPole and Pendulum 100,000 steps, Acrobot and MountainCar 1M,
MountainCarContinuous 20,000, Catch 96,000, FourRooms 200,000; TRPO's 100,000,
MountainCarContinuous 50,000.

What the rows show. One setting of PPO learns CartPole (499.9 ± 0.34), Pendulum (−176.8 ± 14),
Acrobot (−84.27 ± 2.9), MountainCarContinuous (93.6 ± 0.22), Catch (1 ± 0) and UmbrellaChain
(0.9469 ± 0.37, random −0.0059), whose other rewards are ±1 by chance: nine of them spread the mean
of 64 episodes by three eighths. MountainCar it learns slowly (−138.1 ± 7.3, random
−200, published −110 after five times the steps). DeepSea asks for exploration: two of ten seeds
never find its reward, the others have nearly all of it (0.792 ± 0.4). DiscountingChain has a little
more than random (1.088 ± 0.029 and 1.018), of a best 1.1. SimpleBandit draws its arms anew for each
step, and nobody can learn it (0.5144 ± 0.032, random 0.5099). FourRooms is learned (1 ± 0), and on
FrozenLake's slippery ice two of three episodes get across (0.6844 ± 0.045, random 0). Pong's 49,152
steps are enough for its greedy policy (1000 ± 0).

Where something is hidden, a GRU is not always better in so few steps. MemoryChain is learned with
it (1 ± 0) and not without (0.07188 ± 0.096; greedily −0.00627 ± 0.16, a guess). On BernoulliBandit
PPO has 88.93 ± 0.8 with and 81.54 ± 0.92 without, random 50.02: what has no memory sees its last
action and what that earned, which is enough to stay or to shift. PointRobot is alike (2.844 ± 1.3
and 2.478 ± 0.74), and so is GaussianBandit (2.06 ± 2.1 and 3.476 ± 2.5; greedily PPO pulls the
one arm that is always worth 0). MetaMaze is learned slower with it: 21.19 ± 8.3 and 43.22 ± 3.5.

TRPO's setting has CartPole (500 ± 0), Acrobot (−88.32 ± 4.6), Catch (1 ± 0) and FourRooms
(0.9984 ± 0.0047), and of MountainCar it has more in the same steps: −114.7 ± 8.6. It is not steady
where PPO's is: of MountainCarContinuous two seeds of ten never leave the valley (75.32 ± 38), and
three of Pendulum's end far behind the others (−402.3 ± 320). FrozenLake it leaves at 0.5516 ± 0.15.
Of Reacher it has more, 43.82 ± 3.8 to PPO's 29.51 ± 2.1.

On Swimmer both fall short, PPO at 125.1 ± 44 and TRPO at 28.97 ± 4.5, below random (83): the
setting normalises what should be left alone. The swimmer's place has no bounds and its goal lies
within 1; scaled each by its own deviation, the two cannot be compared any more. With observations
as they are ("raw", looked into after the table was there) PPO has 421.6 ± 9.7 and TRPO 412.1 ± 9.2.
"""
GYMNAX_TUNING = """\
All that was tried to choose the settings of [the table](tables_gymnax.md): seeds from 100 on, which
it does not have. One setting of each method was put together from those that
other tables of this library have, with observations and rewards normalised and steps annealed. It
was tried on two tasks, one with continuous actions and one in which rewards are rare, learned both,
and was taken. Nothing else was tried, and nothing on the recurrent rows.
"""
GYMNAX_AGAIN = """\
Two rows of [the table](tables_gymnax.md), drawn by chance, by the same command on other seeds, to
see whether they can be repeated. MountainCar's mean lies within the table's interval, −145.6 …
−130.7. Of CartPole one episode of 640 ended early, where none of the table's did.
"""


class Suite(NamedTuple):
    """Rows that are one page."""

    name: str
    title: str
    text: str  # what the page says of them
    rows: Mapping[str, Config]  # by TASK:METHOD:SETTING
    first_seed: int = 0
    published: Mapping[str, Mapping[str, float]] = {}  # method -> task -> its best epoch's return
    source: str = ""  # of what was published, and how it was measured
    columns: Mapping[str, float] = {}  # setting -> a published score over all tasks
    num_episodes: int = 16  # of an evaluation, each way
    in_training: bool = False  # evaluated twenty times, as what was published


_ALL = (
    Suite(
        "mujoco",
        "MuJoCo: one setting of each method",
        MUJOCO,
        mujoco.ROWS,
        published=mujoco.PUBLISHED,
        source="Tianshou, 1M steps, 10 seeds' best epochs, 10 greedy episodes each",
        num_episodes=10,
        in_training=True,
    ),
    Suite("mujoco_tuning", "MuJoCo: what was tried", TUNING, mujoco.TUNING, first_seed=100),
    Suite(
        "mujoco_again",
        "MuJoCo: rows once more",
        AGAIN,
        mujoco.ROWS,
        first_seed=10,
        num_episodes=10,
        in_training=True,
    ),
    Suite(
        "minatar",
        "MinAtar in gymnax: 10M steps",
        MINATAR,
        minatar.ROWS,
        published=minatar.PUBLISHED,
        source="gymnax-blines, 9.9M steps, one seed, sampled",
    ),
    Suite(
        "gymnax",
        "gymnax: two methods, one setting each",
        GYMNAX,
        gymnax.ROWS,
        published=gymnax.PUBLISHED,
        source="by other settings and budgets, as told above",
        num_episodes=64,
    ),
    Suite("gymnax_tuning", "gymnax: what was tried", GYMNAX_TUNING, gymnax.TUNING, first_seed=100),
    Suite(
        "gymnax_again",
        "gymnax: rows once more",
        GYMNAX_AGAIN,
        gymnax.ROWS,
        first_seed=10,
        num_episodes=64,
    ),
    Suite(
        "ppo_paper",
        "Table 1 of the PPO paper",
        PPO_PAPER,
        ppo_paper.ROWS,
        columns=ppo_paper.PUBLISHED,
    ),
)
SUITES = {suite.name: suite for suite in _ALL}
