"""How PPO's ε and learning rate act on CartPole: one compiled program, a table and figures.

    python experiments/sweep_clip_eps.py           # writes experiments/results/sweep_clip_eps.md

Stopped, it goes on where it was: members are kept in runs/sweep_clip_eps.
"""

import datetime
import shutil
from pathlib import Path

from scores import machine

from jaxrl_po import PPOConfig, sweep
from jaxrl_po.host.sweeps.ranges import log
from jaxrl_po.host.sweeps.results import SweepResult

CONFIG = PPOConfig(env_id="CartPole-v1", total_timesteps=50_000, anneal_lr=True)
SPACE = {"clip_eps": [0.05, 0.1, 0.2, 0.4, 0.8], "learning_rate": log(1e-4, 1e-2, 5)}
NUM_SEEDS = 10
RUN = Path("runs") / "sweep_clip_eps"
RESULTS = Path(__file__).parent / "results"
FIGURES = ("learning_curves", "heatmap", "sensitivity_clip_eps", "sensitivity_learning_rate")


def report(result: SweepResult) -> str:
    """A page with the summary's table and the figures."""
    rows = "\n".join(
        f"| {row['clip_eps']:g} | {row['learning_rate']:.3g} | {row['final_return']:.1f} | "
        f"[{row['low']:.1f}, {row['high']:.1f}] | {row['area']:.1f} | {row['num_diverged']} |"
        for row in result.summary.rows()
    )
    figures = "\n".join(f"![{name}](sweep_clip_eps_{name}.png)" for name in FIGURES)
    return f"""# ε and the learning rate: `python experiments/sweep_clip_eps.py`

{datetime.datetime.now(datetime.UTC).date()}: {machine()}

PPO on CartPole, {CONFIG.total_timesteps:,} steps, annealed, else the defaults;
{len(result.summary.rows())} settings that differ in floats alone (one program); seeds 0 to
{NUM_SEEDS - 1} each: {len(result.summary.rows()) * NUM_SEEDS} members.
Final return: interquartile mean over seeds of the last tenth of the learning curve (sampled
actions), with its 95 % interval, by Student's t; the best first, by that mean less one standard
error; area: mean return over the whole curve.

| ε | learning rate | final return | interval | area | diverged |
|---|---|---|---|---|---|
{rows}

{figures}
"""


def main() -> None:
    """25 settings x 10 seeds."""
    result = sweep(CONFIG, SPACE, NUM_SEEDS, directory=RUN)
    print(result.summary)
    for name in FIGURES:
        shutil.copyfile(RUN / f"{name}.png", RESULTS / f"sweep_clip_eps_{name}.png")
    (RESULTS / "sweep_clip_eps.md").write_text(report(result))


if __name__ == "__main__":
    main()
