"""The command line: what it does, and how it ends."""

import pytest

from jaxrl_po.host import cli
from jaxrl_po.host.files import new_directory
from jaxrl_po.host.signals import Interrupted


@pytest.fixture(autouse=True)
def _cache_where_it_was(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept as it is")


def test_train_resume_and_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "--num-envs 2 --num-steps 8 --hidden-sizes 4 --num-minibatches 2 --num-episodes 2"
    cli.main(["train", "ppo", "--total-timesteps", "32", *flags.split()])
    directory = "runs/CartPole-v1_ppo_seed0"
    cli.main(["resume", directory, "--total-timesteps", "64"])
    shown = capsys.readouterr().out
    assert "2 iterations" in shown
    assert "4 iterations from 2 on" in shown
    assert "steps/s" in shown
    pytest.importorskip("flatbuffers")
    cli.main(["export", directory])
    assert "policy_greedy.jax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("stopped by SIGTERM"), 75),
        (ValueError("no field 'gama'"), 2),
        (OSError(28, "cannot write run"), 1),
    ],
)
def test_exit_status_says_how_it_ended(error, status, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "vpg", "--directory", "nowhere"])
    assert end.value.code == status
    assert str(error).split(":", maxsplit=1)[-1] in capsys.readouterr().err


def test_a_stop_before_anything_was_saved_is_no_traceback(monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", stop)
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "vpg", "--directory", "nowhere"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_sweep_keeps_its_table_and_shows_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "--num-envs 2 --num-steps 8 --hidden-sizes 4 --num-minibatches 2 --num-seeds 2"
    arguments = ["sweep", "ppo", "--total-timesteps", "320", "--clip-eps", "0.1,0.2"]
    cli.main([*arguments, *flags.split(), "--env-params", "length", "0.5"])
    shown = capsys.readouterr().out
    assert "sweep directory: runs/sweep_CartPole-v1_ppo\n" in shown
    assert "best: clip_eps=0." in shown
    table = (tmp_path / "runs/sweep_CartPole-v1_ppo/summary.csv").read_text().splitlines()
    assert len(table) == 3
    assert table[0].split(",") == [line for line in shown.splitlines() if "low" in line][-1].split()


def test_new_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = new_directory("cartpole")
    first.mkdir(parents=True)
    assert [str(first), str(new_directory("cartpole"))] == ["runs/cartpole", "runs/cartpole_2"]
