"""Population-based training: who goes on from whom, under what, wherever it runs."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jaxrl_po import config_from_dict, load_policy, read_sweep
from jaxrl_po.host.report.sources import open_sources, page_data
from jaxrl_po.host.sweeps import member_files
from jaxrl_po.host.sweeps.members import Saved, copied
from jaxrl_po.host.sweeps.population import PopulationBased, make_evolution, selected
from jaxrl_po.host.sweeps.ranges import linear, log, settings_of
from jaxrl_po.types import TrainState
from tests.host.sweeps.test_sweep import PPO, assert_same, compiled, quietly

__all__ = ["compiled"]  # a fixture

CONFIG = PPO.replace(total_timesteps=16 * 9)
SPACE = {"learning_rate": log(1e-3, 3e-2, 3), "gamma": [0.9, 0.99]}
SAME = 0  # a seed under which the copy below has its parent's values
POPULATION = PopulationBased(num_rounds=4, fraction=0.34)  # of 6 settings 2 are replaced


def assert_same_population(one, other):
    assert_same(one, other)
    assert one.lineage.rows() == other.lineage.rows()


@pytest.fixture(scope="module")
def threads():
    """An executor, for its workers keep what they compiled."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The directory of a population, and what it returned."""
    directory = tmp_path_factory.mktemp("population")
    options = {"directory": directory, "keep_policies": True, "evolve": POPULATION}
    return directory, quietly(CONFIG, SPACE, **options)


@pytest.mark.parametrize(
    ("count", "fraction", "replaced"), [(20, 0.2, 4), (7, 0.2, 1), (3, 0.1, 1), (7, 0.5, 3)]
)
def test_the_worst_go_on_from_the_best(count, fraction, replaced):
    rng = np.random.default_rng(0)
    chosen = np.zeros(count)
    for _ in range(400):
        returns = rng.normal(size=count)
        parents = selected(returns, np.zeros(count, bool), fraction, rng.random(count))
        worst, best = np.argsort(returns)[:replaced], np.argsort(returns)[-replaced:]
        moved = np.flatnonzero(parents != np.arange(count))
        assert set(moved) == set(worst)
        ranks = [int(np.flatnonzero(best == parents[i])[0]) for i in moved]
        chosen[:replaced] += np.bincount(ranks, minlength=replaced)
    np.testing.assert_allclose(chosen[:replaced], 400, rtol=0.2)  # all alike likely


def test_what_diverged_is_replaced_and_what_has_no_return_is_left_alone():
    nan, half = np.nan, np.full(5, 0.5)
    diverged = np.array([True, False, True, False, True])
    assert selected(np.array([9.0, 1, nan, 3, 2]), diverged, 0.2, half) == [3, 1, 3, 3, 3]
    alive = np.array([nan, 1, nan, 3, 2])  # of two no episode has finished
    assert selected(alive, np.zeros(5, bool), 0.2, half) == [0, 3, 2, 3, 4]
    assert selected(np.full(5, nan), diverged, 0.2, half) == [0, 1, 2, 3, 4]


def test_values_move_by_a_factor_or_to_a_neighbour_within_what_is_allowed():
    space = {"gamma": linear(0.5, 0.9, 2), "learning_rate": [3e-3, 1e-3, 1e-2]}
    settings = settings_of(CONFIG, space)
    evolution = make_evolution(PopulationBased(2), CONFIG, space, settings, 0)
    setting = {"gamma": 0.9, "learning_rate": 3e-3}
    up, down = np.array([0.5, 0.99]), np.array([0.0, 0.49])
    assert evolution.explored(setting, up) == {"gamma": 1.0, "learning_rate": 1e-2}
    assert evolution.explored(setting, down) == {"gamma": 0.9 * 0.8, "learning_rate": 1e-3}
    ends = {"gamma": 0.5, "learning_rate": 1e-2}
    assert evolution.explored(ends, up) == {"gamma": 0.5 * 1.2, "learning_rate": 1e-2}


def test_the_lineage_is_what_a_few_lines_of_numpy_say(local):
    _, result = local
    rows = result.lineage.rows()
    rounds = [rows[6 * r : 6 * (r + 1)] for r in range(4)]
    assert [row["timesteps"] for row in rows[::6]] == [2 * 16, 4 * 16, 6 * 16, 9 * 16]
    begun = [(rate, gamma) for rate in np.geomspace(1e-3, 3e-2, 3) for gamma in (0.9, 0.99)]
    np.testing.assert_allclose([[row[n] for n in SPACE] for row in rounds[0]], begun)
    for number in (1, 2, 3):
        before, after = rounds[number - 1], rounds[number]
        draws = np.random.default_rng([0, number]).random((6, 3))
        order = np.argsort([-row["final_return"] for row in before])
        for i, row in enumerate(after):
            if i not in order[4:]:
                assert [row[n] for n in ("parent", *SPACE)] == [i, *(before[i][n] for n in SPACE)]
                continue
            parent = before[order[:2][int(2 * draws[i, 0])]]
            assert row["parent"] == parent["setting"]
            rate = parent["learning_rate"] * (1.2 if draws[i, 1] >= 0.5 else 0.8)
            assert row["learning_rate"] == pytest.approx(rate, rel=1e-12)
            assert row["gamma"] == (0.99 if draws[i, 2] >= 0.5 else 0.9)
    at_the_end = {row["setting"]: row for row in rounds[-1]}
    for row in result.summary.rows():
        assert [row[n] for n in SPACE] == [at_the_end[row["setting"]][n] for n in SPACE]


def test_the_schedule_leads_from_parent_to_child_to_the_best(local):
    _, result = local
    rows = result.schedule().rows()
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert [row["parent"] for row in rows[1:]] == [row["setting"] for row in rows[:-1]]
    assert {name: rows[-1][name] for name in SPACE} == result.best
    assert rows[-1]["setting"] == result.first
    with pytest.raises(ValueError, match="the sweep was none of a population"):
        result._replace(lineage=None).schedule()


def test_a_population_is_kept_and_read_again(local):
    directory, result = local
    again = read_sweep(directory)
    assert again.lineage.rows() == result.lineage.rows()
    assert str(again.summary) == str(result.summary)
    assert (again.best, again.edges) == (result.best, {})
    assert not list(directory.glob("sensitivity*"))
    (told,) = page_data(open_sources([directory]))["runs"]
    assert told["sweep"]["command"] is None
    assert told["groups"][0]["label"].startswith("learning_rate ")
    assert load_policy(directory / "policies" / "seed1")(np.zeros((1, 3))).shape == (1, 1)


def test_stopped_in_a_round_it_goes_on_over_an_executor_to_the_same_table(
    local, threads, tmp_path, monkeypatch
):
    save, saves = member_files.save_member, []

    def stop(path, *contents):
        save(path, *contents)
        saves.append(path)
        if len(saves) == 27:  # 3 of the third round
            raise KeyboardInterrupt

    options = {"directory": tmp_path, "keep_policies": True, "evolve": POPULATION}
    with monkeypatch.context() as patch:
        patch.setattr(member_files, "save_member", stop)
        with pytest.raises(KeyboardInterrupt):
            quietly(CONFIG, SPACE, **options)
    (tmp_path / "members" / "rung1-setting00002-seed00001.npz").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "members").iterdir()}
    again = quietly(CONFIG, SPACE, executor=threads, chunk_size=4, **options)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert_same_population(again, local[1])
    with pytest.raises(ValueError, match=r"is of another sweep: its fraction is 0.34, not 0.2"):
        quietly(CONFIG, SPACE, **{**options, "evolve": PopulationBased(4)})


def test_a_copy_has_random_numbers_of_its_own(threads):
    key = jax.random.key(3)
    state = TrainState(*np.arange(4.0), key=jax.random.key_data(key), iteration=np.uint32(2))
    structure = jax.tree.structure(state)
    child = copied(Saved(None, 5.0, jax.tree.leaves(state)), structure, 1, 2.0)
    assert child.seconds == 2.0
    own = jax.tree.unflatten(structure, child.state)
    assert own._replace(key=0) == state._replace(key=0)
    taken = [state.key, *jax.random.key_data(jax.random.split(key, 4))]
    assert not any(np.array_equal(own.key, key) for key in taken)

    # The end of a list is its own neighbour: here the copy has its parent's very values.
    space = {"learning_rate": [1e-3], "gamma": [0.9, 0.99]}
    result = over(threads, PopulationBased(2), space, seed=SAME)
    first, second = result.lineage.rows()[:2], result.lineage.rows()[2:]
    (child,) = [row["setting"] for row in second if row["parent"] != row["setting"]]
    assert second[0]["gamma"] == second[1]["gamma"] == first[1 - child]["gamma"]
    one, other = result.returns
    np.testing.assert_array_equal(one[:, :4], other[:, :4])
    assert (one[:, 4:] != other[:, 4:]).all()


def test_a_population_outlives_what_diverges(threads):
    space = {"learning_rate": log(1e-3, 1e3, 2), "gamma": [0.9]}
    result = over(threads, PopulationBased(2), space)
    assert list(result.lineage["num_diverged"]) == [0, 2, 0, 0]
    assert list(result.lineage["parent"]) == [0, 1, 0, 0]
    assert result.table["learning_rate"][-1] in (1e-3 * 0.8, 1e-3 * 1.2)
    assert not result.table["diverged"].any()


def over(executor, population, space=SPACE, **options):
    """A population over an executor, of one program."""
    return quietly(CONFIG, space, executor=executor, chunk_size=4, evolve=population, **options)


@pytest.mark.parametrize(
    "change", [{"num_rounds": 3}, {"fraction": 0.2}, {"factors": (0.8, 1.3)}], ids=str
)
def test_every_option_changes_the_outcome(change, local, threads):
    result = over(threads, POPULATION._replace(**change))
    assert not np.array_equal(result.returns, local[1].returns)


REFUSED = {
    "evolve: give a PopulationBased, not a dict": (SPACE, {}),
    "evolve: num_rounds=1 is out of range: it must be >= 2": (SPACE, PopulationBased(1)),
    "evolve: num_rounds=10 is out of range: total_timesteps is of 9": (SPACE, PopulationBased(10)),
    "evolve: fraction=0.6: it must be > 0 and <= 0.5": (SPACE, PopulationBased(2, 0.6)),
    r"evolve: factors=\(1.1, 1.2\): two numbers": (SPACE, PopulationBased(2, 0.2, (1.1, 1.2))),
    "evolve: factors=2.0: two numbers": (SPACE, PopulationBased(2, 0.2, 2.0)),
    "evolve: a single setting is no population": ({"gamma": [0.9]}, PopulationBased(2)),
    "evolve: num_envs is static": ({"num_envs": [1, 2]}, PopulationBased(2)),
    "evolve: env_params.max_speed is the task": (
        {"env_params.max_speed": [7.0, 8.0]},
        PopulationBased(2),
    ),
    "evolve: log_std_init cannot change in the middle: .* acts at the start": (
        {"log_std_init": [0.0, 1.0]},
        PopulationBased(2),
    ),
    "evolve: target_kl cannot change in the middle: .* needs early_stop_kl=True": (
        {"target_kl": [0.01], "gamma": [0.9, 0.99]},  # 0.01 is the default, without any effect
        PopulationBased(2),
    ),
    "evolve: learning_rate must be numbers": (
        [{"learning_rate": 0.1}, {"learning_rate": "math:sqrt"}],
        PopulationBased(2),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(message, compiled):
    space, population = REFUSED[message]
    with pytest.raises(ValueError, match=message):
        quietly(CONFIG, space, evolve=population)
    assert not compiled


def test_a_population_is_not_pruned_too(compiled):
    with pytest.raises(ValueError, match=r"prune='halving' with evolve: .* choose one"):
        quietly(CONFIG, SPACE, prune="halving", evolve=POPULATION)
    assert not compiled


@pytest.mark.slow
def test_a_population_finds_the_learning_rate_that_its_settings_lack():
    base = config_from_dict(
        {
            "algorithm": "ppo",
            "env_id": "CartPole-v1",
            "num_steps": 32,
            "hidden_sizes": (16,),
            "total_timesteps": 128 * 400,
            "gamma": 0.95,
        }
    )
    low = {"learning_rate": log(1e-5, 1e-4, 4)}
    alone = quietly(base, low, 2)
    together = quietly(base, low, 2, evolve=PopulationBased(10, 0.25, (0.5, 3.0)))
    assert together.summary["final_return"].max() > 1.2 * alone.summary["final_return"].max()
    assert together.summary["final_return"].min() > 2.0 * alone.summary["final_return"].min()
    assert together.best["learning_rate"] > 1e-4
