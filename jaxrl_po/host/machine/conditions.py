"""What the last bits of a run depend on beside its config: versions, device, flags."""

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax

from jaxrl_po.host.machine.identity import numerics, version

VERSIONS = ("jax", "jaxlib", "jaxrl-po")
STATE_FLAGS = ("jax_enable_x64", "jax_default_prng_impl")  # they set the types of a state's arrays


def conditions(num_devices: int = 1) -> dict[str, str]:
    """What holds in this process, for a run on so many devices, by name."""
    versions = {name: version(name) for name in VERSIONS}
    device = jax.local_devices()[0]
    return {
        **versions,
        **{name: str(value) for name, value in numerics().items()},
        "device": device.device_kind if device.platform != "cpu" else _cpu(),
        "devices": str(num_devices),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def differences(then: Mapping[str, str], num_devices: int = 1) -> list[str]:
    """What was otherwise when the run began, as "name was → is"; only what was noted then."""
    now = conditions(num_devices)
    return [
        f"{name} {then[name] or 'unset'} → {value or 'unset'}"
        for name, value in now.items()
        if name in then and then[name] != value
    ]


def check_state_flags(directory: Path, then: Mapping[str, str]) -> None:
    """Refuse flags under which the saved state has other types.

    Raises:
        ValueError: naming the flag and its value then and now.
    """
    for name in STATE_FLAGS:
        now = str(getattr(jax.config, name))
        if then.get(name, now) != now:
            raise ValueError(
                f"{directory} was run with {name}={then[name]}, and here it is {now}: "
                f"set {name.upper()}={then[name]}"
            )


def _cpu() -> str:
    """The instruction set, as far as the system tells: what XLA compiles for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    features = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()[:8]
    return f"{platform.machine()}, features {digest}"
