"""The cost model: by hand, against compiled programs, and the page that it makes."""

import json
import re

import cost_formulas
import cost_model
import cost_model_report
import pytest
from compiled_counts import count_text
from cost_formulas import Device, Links, Sums, Task, fits, iteration, ways

from docs.hooks import RESULTS, ROOT
from experiments.quoted import stale
from jaxrl_po import PPOConfig, TRPOConfig
from tests.eight_devices import run_on_eight_devices

# Weights of the policy 2 · 4 + 4 · 3 = 20, of the value 2 · 4 + 4 = 12, of each first layer 8.
SHAPE = {"hidden_sizes": (4,), "num_envs": 8, "num_steps": 16, "total_timesteps": 128}
PPO = Task("", PPOConfig(**SHAPE, update_epochs=2, num_minibatches=2), 2, 3, launches=100)
TRPO = Task("", TRPOConfig(**SHAPE, cg_iters=5, critic_epochs=3, critic_minibatches=2), 2, 3)
DEVICE = Device(launch=2e-6, flops=1e9)


def test_flops_of_a_sample():
    both_ways = 4 * 20 + 4 * 12  # to act and for the KL, two values
    assert cost_formulas.flops_per_sample(PPO) == both_ways + 2 * (6 * 32 - 4 * 8)
    policy = 6 * 20 - 2 * 8 + 5 * (8 * 20 - 4 * 8) + 2 * 20
    critic = 3 * (6 * 12 - 2 * 8)
    assert cost_formulas.flops_per_sample(TRPO) == both_ways + policy + critic


def test_sums_of_an_iteration():
    policy, value = 20 + 4 + 3, 12 + 4 + 1
    assert cost_formulas.parameters(PPO) == (policy, value)
    assert cost_formulas.parameters(PPO._replace(continuous=True)) == (policy + 3, value)
    assert cost_formulas.sums(PPO) == Sums(4 * 5 + 5, 4 * 4 * (policy + value + 9) + 33)
    over_batch = PPO.config.replace(advantage_normalization="batch")
    assert cost_formulas.sums(PPO._replace(config=over_batch)) == Sums(
        4 * 3 + 6, 4 * 4 * (policy + value + 6) + 45
    )
    assert cost_formulas.sums(TRPO) == Sums(
        6 + 4 * 5 + 8, 4 * 6 * (value + 1) + 4 * (5 + 1) * policy + 61
    )


def test_links():
    links = Links(8, inside=4.0, between=2.0, start=10.0, hop_inside=1.0, hop_between=5.0)
    assert [links.latency(d) for d in (1, 2, 8, 32)] == [0, 10 + 2, 10 + 14, 10 + 14 + 2 * 10]
    assert links.seconds_per_byte(1) == 0
    assert links.seconds_per_byte(2) == 2 * 1 / 2 / 4
    assert links.seconds_per_byte(32) == 2 * 7 / 8 / 4 + 2 * 3 / 4 / 8 / 2


def test_seconds_of_an_iteration():
    samples, flops = 8 * 16, cost_formulas.flops_per_sample(PPO)
    one = iteration(PPO, DEVICE)
    assert one.launches == pytest.approx(100 * 2e-6)
    assert one.work == pytest.approx(samples * flops / (1e9 * 4 / 64))
    assert one.travel == 0
    four = iteration(PPO, DEVICE, 4, members=3)
    all_reduces, size = cost_formulas.sums(PPO)
    links = Links()
    each = all_reduces * links.latency(4) + size * links.seconds_per_byte(4)
    assert four == pytest.approx((one.launches, 3 * one.work / 4, 3 * each))
    stepping = iteration(PPO._replace(step=1e-3), DEVICE, 4)
    assert stepping.work == pytest.approx(one.work / 4 + samples * 1e-3 / 4)
    assert Device(1.0, 64.0, most=100.0).sustained(32) == 32
    assert Device(1.0, 64.0, most=100.0).sustained(640) == 100


def test_ways_to_use_devices():
    """Five members on eight devices."""

    def total(devices, members=1):
        return iteration(PPO, DEVICE, devices, members).total

    found = ways(PPO, DEVICE, members=5, devices=8)
    assert found.members == total(1)
    assert found.mesh == pytest.approx(5 * total(8))
    assert found.both == pytest.approx(min(2 * total(2), 3 * total(4)))
    assert ways(PPO, DEVICE, members=16, devices=8).members == total(1, members=2)
    assert ways(PPO, DEVICE, members=1, devices=2)[2:] == (None, None)
    assert not fits(PPO, 16)
    assert ways(PPO, DEVICE, members=5, devices=16).mesh is None


TEXT = """
%body.1 (x.1: (f32[8,4], f32[4])) -> (f32[8,4], f32[4]) {
  %x.1 = (f32[8,4]{1,0}, /*index=1*/f32[4]{0}) parameter(0)
  %a = f32[8,4]{1,0} get-tuple-element(%x.1), index=0
  %d = f32[4,4]{1,0} dot(%a, %a), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %r = (f32[4,4]{1,0}, pred[]) all-reduce(%d, %p), to_apply=%add
  ROOT %t = (f32[8,4]{1,0}, f32[4]{0}) tuple(%a, %r)
}

%few (y: f32[8,4]) -> f32[8,4] {
  %y = f32[8,4]{1,0} parameter(0)
  ROOT %n = f32[8,4]{1,0} negate(%y)
}

%many (z: f32[8,4]) -> f32[8,8] {
  %z = f32[8,4]{1,0} parameter(0)
  ROOT %e = f32[8,8]{1,0} dot(%z, %z), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %w = (f32[8,4]{1,0}, f32[4]{0}) while(%q), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"3"}}
  %f = f32[8,8]{1,0} fusion(%p), kind=kOutput, calls=%many
  ROOT %b = f32[8,4]{1,0} conditional(%i, %p, %p), branch_computations={%few, %many}
}
"""  # noqa: E501


def test_counts_of_a_text():
    counts = count_text(TEXT)
    assert counts.product_flops == 3 * 2 * 4 * 4 * 8 + 2 * (2 * 8 * 8 * 4)  # fusion, and branch
    assert counts.kernels == 3 * 2 + 1 + 1
    assert counts.all_reduces == 3
    assert counts.reduced_bytes == 3 * (4 * 16 + 1)


SCRIPT = """
import sys

import pytest

sys.path.insert(0, sys.argv[1])
from compiled_counts import compile_iteration, count_text
from cost_formulas import Task, flops_per_sample, sums
from jaxrl_po.algorithms import ALGORITHMS

N, T, D = 16, 8, 4
for method in ("ppo", "trpo"):
    config = ALGORITHMS[method][0](
        num_envs=N, num_steps=T, total_timesteps=N * T, hidden_sizes=(32, 32), minibatch_shards=D
    )
    task = Task("", config, 4, 2)
    counts = count_text(compile_iteration(config, devices=D).as_text())
    assert counts.product_flops == pytest.approx(flops_per_sample(task) * N * T / D, rel=0.01)
    assert (counts.all_reduces, counts.reduced_bytes) == sums(task), (counts, sums(task))
"""


def test_counts_of_compiled_programs():
    run_on_eight_devices(SCRIPT, ROOT / "experiments")


def test_the_page_is_what_the_measurements_make(tmp_path):
    kept = json.loads((ROOT / RESULTS / "cost_model.json").read_text())
    path = tmp_path / "page.md"
    cost_model_report.write_report(cost_model.findings(kept), path)
    assert path.read_text() == (ROOT / RESULTS / "cost_model.md").read_text()


def test_the_guides_table_quotes_it():
    guide = (ROOT / "docs" / "guide" / "devices.md").read_text()
    (table,) = re.findall(r"^\| there is .*?\n\n", guide, re.DOTALL | re.MULTILINE)
    assert stale(table, (ROOT / RESULTS / "cost_model.md").read_text()) == []
