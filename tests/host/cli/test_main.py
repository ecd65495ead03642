"""The command line: what it does, and how it ends."""

import dataclasses
import json
import os
import pathlib
import pwd
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError

from jaxrl_po import __version__, tuned
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.cli import sweep as sweep_cli
from jaxrl_po.host.machine.files import new_directory
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.simulators.pool import SimulatorError
from jaxrl_po.host.tuned import MEASURED_ON_MUJOCO, SCORES

TINY = ["--num-envs", "2", "--num-steps", "8", "--hidden-sizes", "4", "--num-episodes", "2"]
HOSTILE = ("", "abc", "nan", "-1e-3", "1e400", "\0", "9" * 5000)


@pytest.fixture(autouse=True)
def _cache_where_it_was(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept as it is")


@pytest.fixture
def configs(monkeypatch, tmp_path):
    """The configs that commands would have trained with."""
    monkeypatch.chdir(tmp_path)
    given = []

    def note(config, *args, **kwargs):
        given.append(config)
        raise Interrupted("noted")

    monkeypatch.setattr(cli, "run", note)
    monkeypatch.setattr(cli, "_loggers", lambda *_: [])
    monkeypatch.setattr(sweep_cli, "sweep", note)
    return given


def ends(arguments):
    """The exit status of a command that does not just return."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split() if isinstance(arguments, str) else arguments)
    return end.value.code


def error_of(arguments, capsys):
    """The one line that a refused command prints."""
    assert ends(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err.removeprefix("error: ")


def test_train_resume_and_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["train", "ppo", "--total-timesteps", "3.2e1", *TINY])
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
        (MemoryError(), 1),
        (SimulatorError("gymnasium:Line-v0: KeyError: 'gone'"), 1),
        (SafetensorError("I/O error: No space left on device"), 1),
        (OSError(28, "cannot write to my  runs/a"), 1),
    ],
)
def test_exit_status_says_how_it_ended(error, status, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert ends("train vpg --directory nowhere") == status
    shown = capsys.readouterr().err
    assert (str(error).split(":", maxsplit=1)[-1] or "MemoryError") in shown
    assert shown.count("\n") == 1


def test_a_module_in_the_working_directory_is_found_by_the_installed_command(
    tmp_path, monkeypatch, capsys
):
    """As `python -m` finds it, whose path begins there."""
    text = """
        import dataclasses
        from jaxrl_po import PPOConfig
        from jaxrl_po.config import pytree

        @pytree
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Mine(PPOConfig):
            "PPO under another name."
    """
    (tmp_path / "method_of_mine.py").write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    assert ends("train method_of_mine:Mine --help") == 0
    assert "--clip-eps" in capsys.readouterr().out


def test_a_stop_before_anything_was_saved_is_no_traceback(monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", stop)
    assert ends("train vpg --directory nowhere") == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(("diverged", "status"), [({0: 3, 1: 5}, 1), ({1: 5}, None)])
def test_a_run_that_lost_all_its_seeds_has_failed(diverged, status, tmp_path, monkeypatch, capsys):
    state = SimpleNamespace(iteration=np.zeros(2, int))
    result = SimpleNamespace(state=state, diverged=diverged)
    monkeypatch.setattr(cli, "run", lambda *args, **kwargs: result)
    arguments = ["train", "ppo", "--num-seeds", "2", "--directory", str(tmp_path / "run")]
    if status is None:
        cli.main(arguments)
        return
    assert ends(arguments) == status
    assert capsys.readouterr().err == "error: every seed diverged\n"


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


def test_what_cannot_be_run_leaves_nothing_behind(tmp_path, capsys):
    directory = str(tmp_path / "run")
    for command in ("train", "sweep"):
        error_of([command, "ppo", "--env-id", "Nope", "--directory", directory], capsys)
    error_of(
        ["train", "ppo", "--env-id", "Nope", "--tensorboard", "--directory", directory], capsys
    )
    assert not list(tmp_path.iterdir())


def test_new_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = new_directory("cartpole")
    first.mkdir(parents=True)
    assert [str(first), str(new_directory("cartpole"))] == ["runs/cartpole", "runs/cartpole_2"]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_tuned_settings_are_where_flags_begin(command, configs):
    assert ends(f"{command} trpo --env-id Pendulum-v1 --tuned") == 75
    assert ends(f"{command} trpo --tuned --env_id=Pendulum-v1 --num-envs 8 --gamma 0.8") == 75
    assert ends(f"{command} trpo --env-id Pendulum-v1 --no-tuned") == 75
    expected = tuned("trpo", "Pendulum-v1")
    assert configs[0] == expected
    assert configs[1] == expected.replace(num_envs=8, gamma=0.8)
    assert configs[2] == type(expected)(env_id="Pendulum-v1")


@pytest.mark.parametrize("arguments", ["train vpg --tuned", "train ppo --tuned --env-id Swing-v0"])
def test_where_nothing_is_tuned_it_says_what_is(arguments, configs, capsys):
    message = error_of(arguments, capsys)
    assert "no settings are tuned for" in message
    assert all(score.config.env_id in message for score in SCORES.values())
    assert not configs


def test_an_unknown_method_has_nothing_tuned():
    with pytest.raises(ValueError, match="algorithm='ppoo': did you mean 'ppo'"):
        tuned("ppoo", "CartPole-v1")


@pytest.mark.parametrize(
    "arguments", ["--list-tuned", "train --list-tuned", "sweep ppo --list-tuned"]
)
def test_tuned_settings_are_listed_with_budget_and_result(arguments, capsys):
    assert ends(arguments) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 1 + len(SCORES) + len(json.loads(MEASURED_ON_MUJOCO.read_text()))
    row = next(r for r in rows if r[:2] == ["trpo", "Pendulum-v1"])
    score = SCORES["trpo-pendulum"]
    assert int(row[2]) == score.config.total_timesteps
    assert score.gate < float(row[3]) < 0


def test_a_reader_that_leaves_is_no_error(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert ends("--list-tuned") == 1
    assert capsys.readouterr().err == ""


def test_version(capsys):
    assert ends("--version") == 0
    assert capsys.readouterr().out == f"jaxrl_po {__version__}\n"


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_help_lists_choices_ranges_and_what_fields_mean(command, algorithm, capsys):
    assert ends(f"{command} {algorithm} --help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    config_class, _ = ALGORITHMS[algorithm]
    for field in dataclasses.fields(config_class):
        assert f"--{field.name.replace('_', '-')} " in shown.replace(",", " ")
        allowed = field.metadata.get("allowed")
        if isinstance(allowed, tuple):
            assert "{" + ",".join(allowed) + "}" in shown
    assert "(>= 0 and <= 1; default: 0.99)" in shown
    assert "widths of the hidden dense layers" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "required: {train,sweep,"),
        ("trian", "invalid choice: 'trian'"),
        ("train", "required: {vpg,npg,"),
        ("train ppoo", "invalid choice: 'ppoo'"),
        ("train ppo --gama 0.9", "no flag --gama: did you mean --gamma? (see"),
        ("train ppo --clip-range 0.1", "no flag --clip-range: did you mean --clip-eps? (see"),
        ("train ppo --clip_range=0.1", "no flag --clip-range: did you mean --clip-eps? (see"),
        ("train ppo --batch-size 64", "did you mean --num-minibatches? (a number of minibatches:"),
        ("train trpo --target-kl 0.1", "no flag --target-kl: did you mean --max-kl? (see"),
        ("train ppo --eval-freq 10", "did you mean --evaluate-every?"),
        ("train ppo --zzz 1", "there is no flag --zzz (see"),
        ("sweep ppo --n-steps 8,16", "did you mean --num-steps?"),
        ("resume x --total-steps 10", "did you mean --total-timesteps?"),
        ("train ppo CartPole-v1", "'CartPole-v1' belongs to no flag"),
        ("train ppo --env-id", "--env-id: expected one argument"),
        ("train ppo --gamma x", "--gamma: 'x' is not a number"),
        ("train ppo --gamma 1.5", "PPOConfig.gamma=1.5 is out of range: it must be >= 0 and <= 1"),
        ("train ppo --total-timesteps 1.5", "--total-timesteps: '1.5' is not a whole number"),
        ("train ppo --total-timesteps 1e6.5", "--total-timesteps: '1e6.5' is not a"),
        ("train ppo --total-timesteps nan", "--total-timesteps: 'nan' is not a whole number"),
        ("train ppo --activation tanhh", "activation='tanhh': did you mean 'tanh'?"),
        ("train ppo --env-params length", "--env-params: expected NAME VALUE pairs"),
        ("train ppo --env-params length x", "--env-params: 'x' is not a number"),
        ("train ppo --directory=", "--directory: it is empty"),
        ("train ppo --num-seeds 0", "num_seeds=0 is out of range"),
        ("sweep ppo --num-envs 4,1.5", "--num-envs: '1.5' is not an integer"),
        ("play", "required: PATH"),
        ("play nowhere", "nowhere"),
        ("resume nowhere", "nowhere"),
        ("export nowhere", "nowhere"),
    ],
)
def test_bad_input_gets_one_line(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expected in error_of(arguments, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_of_any_flag_ends_in_a_traceback(command, value, configs, capsys):
    parser = cli.make_parser()
    method = parser.parse([command, "ppo"]).parser
    assert len(method.names) > len(dataclasses.fields(ALGORITHMS["ppo"][0]))
    for name in method.names:
        status = ends([command, "ppo", f"--{name.replace('_', '-')}", *[value] * 2][:4])
        assert status in (2, 75), name
        assert capsys.readouterr().err.count("\n") == 1, name


@pytest.mark.parametrize(
    ("text", "value"), [("1e6", 10**6), ("1_000_000", 10**6), ("2.5e5", 250_000), ("4096.0", 4096)]
)
def test_whole_numbers_in_any_notation(text, value, configs):
    assert ends(f"train ppo --total-timesteps {text}") == 75
    assert ends(f"sweep ppo --total-timesteps {text}") == 75
    assert [config.total_timesteps for config in configs] == [value] * 2


def test_negative_numbers_are_values(configs):
    assert ends("train ppo --env-id Pendulum-v1 --log-std-init -1e-1 --env-params g -0.5") == 75
    assert configs[0].log_std_init == -0.1
    assert configs[0].env_params == {"g": -0.5}


def test_evaluate_shows_what_was_measured(monkeypatch, capsys):
    def evaluate_run(directory, num_episodes, seed, best):
        return f"{directory} {num_episodes} {seed} {best}"

    monkeypatch.setattr(cli, "evaluate_run", evaluate_run)
    cli.main(["evaluate", "runs/a", "--num-episodes", "8", "--seed", "3", "--newest"])
    cli.main(["evaluate", "runs/a"])
    assert capsys.readouterr().out == "runs/a 8 3 False\nruns/a 128 0 True\n"


@pytest.mark.parametrize(("episodes", "shown"), [(1, "return 7.00, "), (2, "return 7.00 ± 0.00, ")])
def test_play_needs_no_environment_and_one_episode_has_no_spread(
    episodes, shown, monkeypatch, capsys
):
    policy = type(
        "Policy", (), {"description": {"config": {"env_id": "Pendulum-v1", "env_params": {}}}}
    )
    monkeypatch.setattr(cli, "load_policy", lambda directory: policy)

    def play(policy, env, num_episodes, **kwargs):
        assert env is None
        return np.full(num_episodes, 7.0), np.full(num_episodes, 9)

    monkeypatch.setattr(cli, "play", play)
    cli.main(["play", "runs/a", "--episodes", str(episodes)])
    assert f"Pendulum-v1: {shown}" in capsys.readouterr().out


def test_without_a_home_nothing_is_cached_and_nothing_fails(monkeypatch, capsys, configs):
    def nobody(uid):
        raise KeyError(uid)

    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert ends("train ppo") == 75
    assert "compiled programs are not kept" in capsys.readouterr().err
    assert len(configs) == 1


def test_it_runs_without_a_home_and_on_an_ascii_terminal(tmp_path):
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_", "MPL"))},
        "HOME": "/proc/nobody",  # where nothing can be made
        "PYTHONIOENCODING": "ascii",
    }
    flags = ["--total-timesteps", "32", "--num-seeds", "2", "--directory", "größer"]
    command = [sys.executable, "-m", "jaxrl_po", "train", "vpg", *TINY, *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiled programs are not kept" in done.stderr
    assert "final return" in done.stdout
    assert " +- " in done.stdout
    assert (tmp_path / "größer" / "policy").is_dir()


@pytest.mark.parametrize("command", ["train vpg", "sweep ppo --clip-eps 0.1,0.2", "resume runs/a"])
def test_a_platform_that_is_not_there_is_told_in_one_line(command, monkeypatch, capsys):
    def devices():
        raise RuntimeError("Unable to initialize backend 'bogus'")

    monkeypatch.setattr(cli.jax, "devices", devices)
    assert "Unable to initialize backend 'bogus'" in error_of(command, capsys)


@pytest.mark.parametrize("name", ["train.slurm", "train.kubernetes.yaml"])
def test_flags_of_the_scripts_for_clusters_are_there(name):
    """What they start is read from them, with a number in place of each variable."""
    text = (pathlib.Path(__file__).parents[3] / "scripts" / name).read_text()
    together = re.search(r"together=[(\"]([^)\"]*)[)\"]", text)[1]
    commands = re.findall(r"python -m jaxrl_po((?:.*\\\n)*.*)", text)
    assert len(commands) == 2
    for command in commands:
        arguments = re.sub(r'\$together|"\$\{together\[@\]\}"', together, command)
        words = re.sub(r'"?\$\w+"?', "1", arguments.replace("\\\n", " ")).split()
        parsed = cli.make_parser().parse(words)
        assert parsed.devices == "all"
        assert parsed.coordinator in ("auto", "train-0.train:1234")


def test_a_process_of_several_must_be_given_devices(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "ppo", "--coordinator", "127.0.0.1:1", "--num-processes", "2"])
    assert exit_.value.code == 2
    assert "coordinator needs devices=all beside it" in capsys.readouterr().err
