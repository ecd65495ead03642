"""Adaptive search with Optuna over structure and numbers together, resumable.

    python experiments/optuna_search.py --trials 48    # writes experiments/results/optuna_search.md

Trials are asked for in batches; a batch is one sweep: its trials that differ in numbers alone are
one program, with all their seeds. The study lives in SQLite: run the command again to go on where
it stopped, with more trials if you like. Needs `pip install 'jaxrl-po[optuna]'`.
"""

import argparse
import datetime
import pathlib
from typing import Any

import jax
import numpy as np
import optuna
from scores import machine

from jaxrl_po import PPOConfig, sweep

RESULTS = pathlib.Path(__file__).parent / "results" / "optuna_search.md"
CONFIG = PPOConfig(env_id="CartPole-v1", total_timesteps=30_000, anneal_lr=True)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """A point of the space: structure first, then numbers."""
    width = trial.suggest_categorical("width", [32, 64])
    return {
        "hidden_sizes": (width, width),
        "update_epochs": trial.suggest_categorical("update_epochs", [4, 8]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True),
        "clip_eps": trial.suggest_float("clip_eps", 0.05, 0.5, log=True),
        "gae_lambda": trial.suggest_float("gae_lambda", 0.8, 1.0),
        "ent_coef": trial.suggest_float("ent_coef", 1e-5, 3e-2, log=True),
    }


def open_study(path: pathlib.Path) -> optuna.Study:
    """The study of that file, new or to go on; trials that a kill left open have failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="ppo",
        storage=f"sqlite:///{path}",
        direction="maximize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=16,
        multivariate=True,
        constant_liar=True,  # trials of one batch keep apart
        seed=len(study.trials),  # one that goes on draws other points than it began with
    )
    return study


def run_batch(study: optuna.Study, batch: int, num_seeds: int) -> None:
    """Ask for trials, train them side by side, and tell their scores."""
    trials = [study.ask() for _ in range(batch)]
    result = sweep(CONFIG, [suggest(trial) for trial in trials], num_seeds, quiet=True)
    scores = dict(zip(result.summary["setting"].tolist(), result.summary["score"], strict=True))
    for i, trial in enumerate(trials):
        if np.isfinite(scores[i]):
            study.tell(trial, float(scores[i]))
        else:  # all its members diverged
            study.tell(trial, state=optuna.trial.TrialState.FAIL)


def report(study: optuna.Study, num_seeds: int) -> str:
    """A page with the best trials, and how the search got there."""
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    values = [trial.value or 0.0 for trial in complete]
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:5]
    names = list(best[0].params)
    rows = "\n".join(
        f"| {t.number} | {t.value:.1f} | {' | '.join(f'{t.params[n]:.3g}' for n in names)} |"
        for t in best
    )
    third = len(values) // 3
    means = ", ".join(f"{np.mean(values[i * third : (i + 1) * third]):.0f}" for i in range(3))
    return f"""# Adaptive search: `python experiments/optuna_search.py --trials {len(complete)}`

{datetime.datetime.now(datetime.UTC).date()}: {machine()}, optuna {optuna.__version__}

PPO on CartPole, {CONFIG.total_timesteps:,} steps, annealed; seeds 0 to {num_seeds - 1} a trial.
Value: the final return (interquartile mean over seeds), less one standard error.
Mean value of the first, second and last third of the trials, in their order: {means}.
Trials that a kill left open, and that were asked for anew: {len(study.trials) - len(complete)}.

| trial | value | {" | ".join(names)} |
|{"---|" * (len(names) + 2)}
{rows}
"""


def main() -> None:
    """Search until the study has as many trials as asked for, and print the best."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=48, help="of the whole study")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--num-seeds", type=int, default=4)
    parser.add_argument("--study", type=pathlib.Path, default=pathlib.Path("runs/optuna_search.db"))
    arguments = parser.parse_args()
    # Batches share their programs' structures: what one compiled, the next one loads.
    jax.config.update("jax_compilation_cache_dir", str(arguments.study.parent.absolute() / "cache"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(arguments.study)
    complete = (optuna.trial.TrialState.COMPLETE,)
    while (done := len(study.get_trials(deepcopy=False, states=complete))) < arguments.trials:
        run_batch(study, min(arguments.batch, arguments.trials - done), arguments.num_seeds)
        best = study.best_trial
        print(
            f"{done:>4} trials before this batch; best #{best.number}: {best.value:.1f}", flush=True
        )
    print(study.best_params)
    RESULTS.write_text(report(study, arguments.num_seeds))


if __name__ == "__main__":
    main()
