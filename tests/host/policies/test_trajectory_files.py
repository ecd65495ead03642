"""Trajectories on disk are those that were given."""

import jax
import numpy as np
import pytest

from jaxrl_po import Trajectories, load_trajectories, save_dataset, save_trajectories

SEEN, FINAL = np.arange(10.0).reshape(5, 2), np.array([[100.0, 101.0], [200.0, 201.0]])
PLAIN = {
    "action": np.arange(5),
    "reward": np.ones(5),
    "terminated": np.array([0, 0, 1, 0, 0], bool),
    "truncated": np.array([0, 0, 0, 0, 1], bool),
    "episode": np.array([0, 0, 0, 1, 1]),
}
ARRAYS = Trajectories(observation=SEEN, final_observation=FINAL, **PLAIN)
DICTS = ARRAYS._replace(
    observation={"a": SEEN, "b": SEEN[:, 0]}, final_observation={"a": FINAL, "b": FINAL[:, 0]}
)


@pytest.mark.parametrize("expected", [ARRAYS, DICTS])
def test_npz_brings_all_back(expected, tmp_path):
    save_trajectories(tmp_path / "a.npz", expected)
    jax.tree.map(np.testing.assert_array_equal, load_trajectories(tmp_path / "a.npz"), expected)


def test_what_is_no_such_file_is_named(tmp_path):
    np.savez(tmp_path / "b.npz", action=np.ones(2))
    with pytest.raises(ValueError, match=r"b\.npz holds no trajectories"):
        load_trajectories(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"must end with \.npz"):
        save_trajectories(tmp_path / "a.txt", ARRAYS)


def test_a_folder_has_a_row_a_step(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(save_dataset(tmp_path / "data", ARRAYS)).to_pydict()
    assert table["observation"] == SEEN.tolist()
    assert table["next_observation"] == [[2, 3], [4, 5], [100, 101], [8, 9], [200, 201]]
    assert table["step"] == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="must be new or empty"):
        save_dataset(tmp_path / "data", ARRAYS)
    named = parquet.read_table(save_dataset(tmp_path / "dicts", DICTS)).column_names
    assert {"observation.a", "next_observation.b"} <= set(named)


@pytest.mark.parametrize("damage", ["cut", "scrambled", "one array"])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = tmp_path / "a.npz"
    save_trajectories(path, ARRAYS)
    data = path.read_bytes()
    path.write_bytes(data[:300] if damage == "cut" else data[:60] + b"x" * 30 + data[90:])
    if damage == "one array":
        with path.open("wb") as file:
            np.save(file, SEEN)
    with pytest.raises(ValueError, match=r"a\.npz holds no trajectories"):
        load_trajectories(path)


def test_types_that_files_do_not_have(tmp_path):
    narrow = jax.tree.map(lambda x: jax.numpy.asarray(x, jax.numpy.bfloat16), (SEEN, FINAL))
    given = ARRAYS._replace(observation=narrow[0], final_observation=narrow[1])
    save_trajectories(tmp_path / "a.npz", given)
    found = load_trajectories(tmp_path / "a.npz").observation
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, SEEN)  # small integers
    with pytest.raises(ValueError, match="observation has dtype object"):
        save_trajectories(tmp_path / "b.npz", ARRAYS._replace(observation=SEEN.astype(object)))
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(save_dataset(tmp_path / "data", given)).to_pydict()
    assert table["observation"] == SEEN.tolist()
