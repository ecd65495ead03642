"""A run over several devices: the run on one, stopped and resumed on as many or on others."""

import pytest

from jaxrl_po import run
from jaxrl_po.host.machine.conditions import conditions, differences
from tests.eight_devices import run_on_eight_devices
from tests.host.simulators.lines import hosted
from tests.host.small import RUN, config

SCRIPT = """
import json, shutil, sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_po import resume, run
from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.runs.directory import read_description
from tests.host.small import RUN, config, random_walk, same

folder, ENV = Path(sys.argv[1]), random_walk()
settings = {"num_seeds": 2, "segment_length": 2, "env": ENV, **RUN}
schedule = config(num_envs=8, num_steps=4, total_timesteps=8 * 32, minibatch_shards=4)


def close(left, right):
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=1e-5, atol=1e-5, err_msg=name)


one = run(schedule, **settings)
four = run(schedule, devices=4, **settings)
close(one.metrics, four.metrics)
for kind in ("evaluation", "greedy_evaluation"):
    close(getattr(one, kind)._asdict(), getattr(four, kind)._asdict())
for state in four.state.rollout:
    for x in jax.tree.leaves(state):
        assert {shard.data.shape[:2] for shard in x.addressable_shards} == {(2, 2)}
assert len(jax.tree.leaves(four.state.params)[0].sharding.device_set) == 4

run(schedule, directory=folder / "four", devices=4, until=4, **settings)
assert read_description(folder / "four").conditions["devices"] == "4"
shutil.copytree(folder / "four", folder / "two")
for name, devices in (("four", 4), ("two", jax.devices()[6:])):
    resumed = resume(folder / name, env=ENV, devices=devices, quiet=True)
    rest = {key: values[:, 4:] for key, values in four.metrics.items()}
    close(rest, resumed.metrics)
    if name == "four":
        assert same(resumed.state, four.state)
        assert all((rest[key] == values).all() for key, values in resumed.metrics.items())
    else:
        assert jax.tree.leaves(resumed.state)[0].sharding.device_set == set(devices)
        notices = json.loads((folder / name / "events.jsonl").read_text().splitlines()[0])
        assert "devices 4 → 2" in str(notices), notices

# What diverged is told as on one device: the diagnosis has the state from all of them.
broken = {"env": random_walk(hazard=0.2), **RUN}
lost = run(schedule, devices=2, **broken)
assert lost.diverged == run(schedule, **broken).diverged != {}

start = jax.tree.map(lambda x: np.asarray(x[0]), four.state.params)
close(*(run(schedule, params=start, devices=d, env=ENV, **RUN).metrics for d in (None, 4)))

with pytest.raises(ValueError, match="minibatch_shards=4 is not a multiple of the mesh's 8"):
    run(schedule, devices="all", directory=folder / "none", **settings)
assert not (folder / "none").exists()

shell = ["--num-envs", "4", "--num-steps", "4", "--hidden-sizes", "4", "--minibatch-shards", "2"]
shell += ["--total-timesteps", "32", "--num-episodes", "2", "--directory", str(folder / "shell")]
cli.main(["train", "vpg", "--devices", "2", *shell])
assert read_description(folder / "shell").conditions["devices"] == "2"
cli.main(["resume", str(folder / "shell"), "--devices", "1", "--total-timesteps", "64"])
assert "devices 2 → 1" in (folder / "shell" / "events.jsonl").read_text().encode().decode(
    "unicode_escape"
)
with pytest.raises(SystemExit):
    cli.main(["train", "vpg", "--devices", "all", *shell])
"""


@pytest.mark.slow
def test_devices_change_no_more_than_the_last_bits(tmp_path):
    run_on_eight_devices(SCRIPT, tmp_path)


def test_the_number_of_devices_is_noted():
    assert differences(conditions(4), 4) == []
    assert differences(conditions(4), 2) == ["devices 4 → 2"]
    before = {name: value for name, value in conditions().items() if name != "devices"}
    assert differences(before, 2) == []  # of a run from before they were noted


def test_environments_on_the_host_are_not_laid_out(tmp_path):
    with pytest.raises(ValueError, match="devices=1: environments on the host are not laid out"):
        run(config(), env=hosted(), devices=1, directory=tmp_path / "run", **RUN)
    assert not (tmp_path / "run").exists()
