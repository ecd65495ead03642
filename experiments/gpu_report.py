"""The tables of `gpu.py`, from what it measured."""

import pathlib
from typing import Any

TITLES = {
    "cartpole_1": "PPO CartPole-v1, 4 x 128, 1 agent of 5e4 steps",
    "cartpole_64": "PPO CartPole-v1, 4 x 128, 64 agents of 5e4 steps",
    "cartpole_2048": "PPO CartPole-v1, 4 x 128, 2,048 agents of 5e4 steps",
    "cartpole_2048_5e5": "PPO CartPole-v1, 4 x 128, 2,048 agents of 5e5 steps",
    "breakout": "PPO Breakout-MinAtar, 64 x 128, 4e5 steps",
    "breakout_1e7": "PPO Breakout-MinAtar, 64 x 128, 1e7 steps",
    "cnn": 'PPO Breakout-MinAtar, 64 x 128, 4e5 steps, network="cnn"',
    "pixels": 'PPO Breakout-MinAtar drawn 80 x 80, 64 x 128, 8e4 steps, network="nature"',
    "memories": "PPO CartPole-v1, 16 x 128 or 16 x 1,024, memory of 128",
    "ant": "PPO brax:ant/positional, 4,096 x 20, 5e7 steps",
    "mesh": "PPO CartPole-v1, 1,024 x 128, 1 agent of 2e7 steps",
    "trpo_64": "TRPO CartPole-v1, 8 x 256, 64 agents of 4e4 steps",
}
PROFILES = {"profile_1": "1 agent", "profile_64": "64 agents", "profile_2048": "2,048 agents"}


def write_report(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Write gpu.md from all sections that there are."""
    lines = ["# One GPU", "", "Made by `bash experiments/gpu.sh`.", ""]
    for stamp in dict.fromkeys(results["measured"].values()):
        names = [name for name, at in results["measured"].items() if at == stamp]
        lines += [f"{stamp}: {', '.join(names)}", ""]
    lines += [*_speed(results), *_correctness(results), *_profiles(results)]
    lines += [*_ant(results), *_variants(results), *_rlhf(results)]
    discussion = folder / "gpu_discussion.md"
    lines += [discussion.read_text()] if discussion.exists() else []
    (folder / "gpu.md").write_text("\n".join(lines))


def _speed(results: dict[str, Any]) -> list[str]:
    lines = ["## Speed", "", "|  | program | steps/s | seconds | compile (s) | last return |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for name, title in TITLES.items():
        for side, measured in results.get(name, {}).items():
            if side == "failed":
                lines.append(f"| {title} | failed: {measured[:80]} | | | | |")
                continue
            lines.append(
                f"| {title} | {side} | {measured['steps_per_second']:,.0f} | "
                f"{measured['seconds']:.2f} | "
                f"{measured['compile_seconds']:.1f} | {measured['last_return']:.1f} |"
            )
    return [*lines, ""]


def _ant(results: dict[str, Any]) -> list[str]:
    """Ant's settings, trained side by side."""
    measured = results.get("ant_settings", {})
    if "last_returns" not in measured:
        return []
    gammas, rates = measured["gammas"], measured["learning_rates"]
    lines = ["## Ant, 5e7 steps: return in the last twentieth of training", ""]
    lines += [f"| learning rate | {' | '.join(f'gamma {gamma:g}' for gamma in gammas)} |"]
    lines += ["| ---: |" + " ---: |" * len(gammas)]
    for rate, returns in zip(rates, measured["last_returns"], strict=True):
        lines.append(f"| {rate:g} | {' | '.join(f'{x:,.0f}' for x in returns)} |")
    agents = len(gammas) * len(rates)
    return [*lines, "", f"{measured['seconds']:.0f} s for {agents} agents, compiling included.", ""]


def _correctness(results: dict[str, Any]) -> list[str]:
    table = results.get("correctness", {}) | results.get("correctness_networks", {})
    table.pop("failed", None)
    if not table:
        return []
    lines = ["## One iteration against the CPU", ""]
    lines += ["Largest difference as a part of the largest number.", ""]
    lines += ["| method, task, network, precision of products | parameters | worst metric |"]
    lines += ["| --- | ---: | --- |"]
    for name, values in table.items():
        metric = max((k for k in values if k != "params"), key=lambda k: values[k])
        lines.append(f"| {name} | {values['params']:.1e} | {metric} {values[metric]:.1e} |")
    return [*lines, ""]


def _profiles(results: dict[str, Any]) -> list[str]:
    lines = ["## Launches of PPO CartPole-v1, 4 x 128", ""]
    lines += ["|  | launches an iteration | ms an iteration | busy | kernel (µs) | gap (µs) |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, title in PROFILES.items():
        measured = results.get(name, {})
        if measured.get("median_gap_us") is None:
            continue
        lines.append(
            f"| {title} | {measured['launches_per_iteration']:,.0f} | "
            f"{1e3 * measured['seconds'] / measured['iterations']:.1f} | "
            f"{measured['busy_fraction']:.0%} | {measured['median_kernel_us']:.1f} | "
            f"{measured['median_gap_us']:.1f} |"
        )
    return [*lines, ""]


def _variants(results: dict[str, Any]) -> list[str]:
    """Speed without single forms, and with loops in CUDA graphs."""
    lines = [
        "## Forms",
        "",
        "|  | 1 agent, steps/s | 2,048 agents, steps/s |",
        "| --- | ---: | ---: |",
    ]
    columns = {"as it is": [results.get(f"cartpole_{n}", {}).get("own") for n in (1, 2048)]}
    for name in results.get("variants_1", {}):
        columns[name] = [results.get(f"variants_{n}", {}).get(name) for n in (1, 2048)]
    columns["loops in CUDA graphs"] = [
        results.get("graphs", {}).get("cartpole_1", {}).get("own"),
        None,
    ]
    for name, cells in columns.items():
        speeds = [f"{cell['steps_per_second']:,.0f}" if cell else "–" for cell in cells]
        lines.append(f"| {name} | {' | '.join(speeds)} |")
    return [*lines, ""]


def _rlhf(results: dict[str, Any]) -> list[str]:
    measured = results.get("rlhf", {})
    if "tokens_per_second" not in measured:
        return []
    return [
        "## PPO on tokens, four layers of 256, V 4,096, 1,024 x 32",
        "",
        f"{measured['tokens_per_second']:,.0f} tokens/s, {measured['seconds_per_iteration']:.3f} s "
        f"an iteration; score {measured['first_score']:.3f} at first, {measured['last_score']:.3f} "
        f"at last; ratio of the first minibatch {measured['ratio_first_minibatch']:.5f}.",
        "",
    ]
