"""What is left of a sweep: the winner's command, and the policies of its best members."""

import shlex

import numpy as np
import pytest

from jaxrl_po import PPOConfig, TRPOConfig, load_policy, plot_runs, plot_sweep, run, sweep
from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.report.sources import open_sources, page_data
from jaxrl_po.host.sweeps.winner import train_command
from tests.host.small import RUN, config, random_walk
from tests.host.sweeps.test_results import made
from tests.host.sweeps.test_sweep import quietly

CONFIGS = [
    PPOConfig(),
    PPOConfig(learning_rate=1.23456789e-4, hidden_sizes=(32, 16), clip_value=True, num_envs=8),
    PPOConfig(env_params={"length": 0.3, "gravity": -9.5}, log_std_init=-0.25, gamma=0.123),
    PPOConfig(advantage_normalization="none", normalize_observations=True),
    PPOConfig(env_params={"sutton_barto_reward": True}, hidden_sizes=(), max_grad_norm=np.inf),
    TRPOConfig(max_kl=0.02, env_id="Pendulum-v1"),
]


@pytest.mark.parametrize("expected", CONFIGS)
def test_the_command_says_the_config(expected, monkeypatch):
    python, module, package, *words = shlex.split(train_command(expected, 3, 5))
    assert (python, module, package) == ("python", "-m", "jaxrl_po")
    parsed = cli.make_parser().parse(words)
    fields = cli.given_fields(parsed)
    assert parsed.config_class().replace(**fields).to_dict() == expected.to_dict()
    assert (parsed.seed, parsed.num_seeds) == (3, 5)


def test_the_best_members_are_kept(tmp_path):
    walk, space = config(num_iterations=2), {"learning_rate": [1e-3, 1e-2]}
    result = quietly(walk, space, env=random_walk(), keep_best=3, directory=tmp_path)
    rows = sorted(result.table.rows(), key=lambda row: -row["final_return"])
    for place, row in enumerate(rows[:3], start=1):
        policy = load_policy(tmp_path / "best" / str(place), env=random_walk())
        assert policy.description["config"]["learning_rate"] == row["learning_rate"]
        assert policy(np.zeros((1, 2))).shape == (1, 1)
    assert not (tmp_path / "best" / "4").exists()
    with pytest.raises(ValueError, match="keep_best=1 needs a directory"):
        quietly(walk, space, env=random_walk(), keep_best=1)


def test_members_without_a_return_are_said_to_leave_no_policy(tmp_path, capsys):
    base = config(num_iterations=1, env_id="Pendulum-v1")  # no episode ends in its 200 steps
    sweep(base, {"learning_rate": [1e-3]}, 1, keep_best=1, directory=tmp_path)
    assert "no policies are kept: no member has a return" in capsys.readouterr().out
    assert not (tmp_path / "best").exists()


def test_the_command_of_a_halved_sweep_trains_as_long_as_its_winner(tmp_path, capsys):
    base = config(num_iterations=4, env_id="CartPole-v1")
    space = {"learning_rate": [1e-4, 1e-3, 1e-2, 1e-1]}
    result = sweep(base, space, 1, prune="halving", directory=tmp_path)
    longest = max(row["timesteps"] for row in result.table.rows())
    assert longest == 1.5 * base.total_timesteps
    said = f"--total-timesteps {longest} "
    assert said in capsys.readouterr().out
    (told,) = page_data(open_sources([tmp_path]))["runs"]
    assert said in told["sweep"]["command"]


def test_figures_are_of_what_was_asked(tmp_path):
    result = made([1.0, 2.0], [3.0, 4.0])
    assert plot_sweep(result).axes[0].get_xlabel() == "environment steps"
    assert plot_sweep(result, "clip_eps").axes[0].get_xlabel() == "clip_eps"
    with pytest.raises(ValueError, match="at most two"):
        plot_sweep(result, "a", "b", "c")
    for name in ("one", "two"):
        run(config(num_iterations=2), directory=tmp_path / name, env=random_walk(), **RUN)
    axes = plot_runs([tmp_path / "one", tmp_path / "two"], ["$a", "b"]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["$a", "b"]
    with pytest.raises(ValueError, match="holds no run"):
        plot_runs([tmp_path])
