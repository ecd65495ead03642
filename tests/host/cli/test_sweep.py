"""The sweep command: what its flags stand for, and how it ends."""

import pytest

from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.cli import sweep as sweep_cli
from jaxrl_po.host.sweeps.population import PopulationBased
from jaxrl_po.host.sweeps.ranges import log, settings_of
from tests.host.sweeps.test_results import NAN, made


@pytest.fixture
def ending(monkeypatch):
    """Let the command end with given members, and see what it asked for."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept as it is")
    calls = []

    def command(arguments, *finals):
        def sweep(config, space, *args, **options):
            calls.append((config, space, options))
            return made(*finals)

        monkeypatch.setattr(sweep_cli, "sweep", sweep)
        cli.main(["sweep", "ppo", "--directory", "nowhere", *arguments.split()])
        return calls[-1]

    return command


def test_the_exit_status_says_when_every_member_diverged(ending, capsys):
    with pytest.raises(SystemExit) as end:
        ending("--clip-eps 0.1,0.2", [None, None], [None, None])
    assert end.value.code == 1
    assert "num_diverged" in capsys.readouterr().out  # the table is shown all the same
    ending("--clip-eps 0.1,0.2", [None, None], [NAN, 1.0])
    ending("--clip-eps 0.1,0.2", [NAN, NAN], [NAN, NAN])


def test_whole_numbers_may_be_written_as_1e6(ending):
    config, space, options = ending(
        "--total-timesteps 1e6 --num-steps 64,1.28e2 --hidden-sizes 1e1x4 --keep-policies", [1.0]
    )
    assert config.total_timesteps == 1_000_000
    assert config.hidden_sizes == (10, 4)
    assert space == {"num_steps": [64, 128]}
    assert options["keep_policies"] is True


def test_a_population_evolves_in_so_many_rounds(ending):
    _, space, options = ending("--learning-rate log:1e-4..1e-2:4 --evolve 12", [1.0])
    assert options["evolve"] == PopulationBased(num_rounds=12)
    assert space == {"learning_rate": log(1e-4, 1e-2, 4)}
    assert ending("--clip-eps 0.1,0.2", [1.0])[2]["evolve"] is None


@pytest.mark.parametrize("text", ["1.5", "1e400", "nan", "1e-1", "six"])
def test_what_is_no_whole_number_is_refused_by_name(text, ending, capsys):
    with pytest.raises(SystemExit) as end:
        ending(f"--num-steps 8,{text}", [1.0])
    assert end.value.code == 2
    assert f"--num-steps: '{text}' is not an integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "fixed"),
    [
        ("--num-steps 100,200 --num-minibatches 25", {"num_minibatches": 25}),
        ("--num-steps 50,100 --total-timesteps 400", {"total_timesteps": 400}),
        ("--clip-value false,true --value-clip-eps 0.1", {"value_clip_eps": 0.1}),
        (
            "--env-id Pendulum-v1,MountainCarContinuous-v0 --squash-actions true",
            {"squash_actions": True},
        ),
    ],
)
def test_single_values_go_with_the_lists_beside_them(flags, fixed, ending):
    config, space, _ = ending(flags, [1.0])
    assert {name: getattr(config, name) for name in fixed} == fixed
    assert len(space) == 1
    assert len(settings_of(config, space)) == 2


def test_what_has_no_effect_at_any_point_is_refused(ending, capsys):
    with pytest.raises(SystemExit) as end:
        ending("--early-stop-kl true,false --value-clip-eps 0.1", [1.0])
    assert end.value.code == 2
    assert "value_clip_eps=0.1 has no effect" in capsys.readouterr().err
