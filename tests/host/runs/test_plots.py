"""The learning curve: any name will do, and a run that is done does not fail in its figure."""

import shutil

import pytest

from jaxrl_po import resume, run
from jaxrl_po.host.runs.plots import plot_run
from tests.host.small import RUN, config, random_walk

ENV = random_walk()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run(config(num_iterations=1), directory=directory, env=ENV, **RUN)
    return directory


@pytest.mark.parametrize("name", ["$_$", "a$_", "a$b$", r"\frac{$x$}", "x^{", "%s {0}", "\udcff"])
def test_any_name_of_a_directory_can_be_drawn(name, finished, tmp_path):
    directory = shutil.copytree(finished, tmp_path / name)
    assert plot_run(directory).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "table",
    [b"seed,timesteps\n", b"seed,iteration\n1\n", b"\x00", b"\xff\xfe", b"seed\n1,2,3\n"],
)
def test_damaged_table_is_named(table, finished, tmp_path):
    directory = shutil.copytree(finished, tmp_path / "run")
    (directory / "metrics.csv").write_bytes(table)
    before = (directory / "learning_curve.png").read_bytes()
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: "):
        plot_run(directory)
    assert (directory / "learning_curve.png").read_bytes() == before


@pytest.mark.parametrize("change", [lambda t: t[:-9], lambda t: t.replace(b"1", b"x")])
def test_numbers_that_are_none_are_named(change, finished, tmp_path):
    directory = shutil.copytree(finished, tmp_path / "run")
    table = (directory / "metrics.csv").read_bytes()
    (directory / "metrics.csv").write_bytes(change(table).rsplit(b",", 3)[0])
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: "):
        plot_run(directory)


def test_finished_run_does_not_fail_in_its_figure(finished, tmp_path, capsys):
    directory = shutil.copytree(finished, tmp_path / "run")
    (directory / "learning_curve.png").unlink()
    (directory / "learning_curve.png").mkdir()
    result = resume(directory, env=ENV)
    assert result.state.iteration.tolist() == [1]
    shown = capsys.readouterr().out
    assert "no learning curve was drawn: " in shown
    assert "cannot write" in shown
    assert "final return" in shown
