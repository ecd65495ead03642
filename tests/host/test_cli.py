"""The command line: what it does, and how it ends."""

import pytest

from jaxrl_po.host import cli
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


def test_new_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tests.host.small import config

    first = cli._new_directory(config(), 3)
    first.mkdir(parents=True)
    assert [str(first), str(cli._new_directory(config(), 3))] == [
        "runs/CartPole-v1_ppo_seed3",
        "runs/CartPole-v1_ppo_seed3_2",
    ]
