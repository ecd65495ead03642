"""How the final return depends on one field of a sweep, over all settings of the others."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxrl_po.host.sweeps.statistics import iqm, spread

if TYPE_CHECKING:
    from jaxrl_po.host.sweeps.results import SweepResult

LOG_RATIO = 10.0  # positive numbers spread wider than this are drawn on a logarithmic axis


class Sensitivity(NamedTuple):
    """The final return at V values of a field."""

    values: list[Any]  # [V] in order, those with any final return
    center: np.ndarray  # [V] IQM
    low: np.ndarray  # [V] of the 95 % interval, whose strata are the settings of the other fields
    high: np.ndarray  # [V]
    numeric: bool  # the values are finite numbers
    sampled: bool  # neighbours differ in more than this field: no line joins them

    @property
    def logarithmic(self) -> bool:
        """Whether the values belong on a logarithmic axis."""
        low, high = (min(self.values), max(self.values)) if self.numeric else (0, 0)
        return bool(low > 0 and high / low > LOG_RATIO)


def sensitivity(result: "SweepResult", field: str) -> Sensitivity:
    """The final return at each value of a field.

    Raises:
        ValueError: when the field was not swept, or no setting has a final return.
    """
    check_fields(result, field)
    by_value = {value: strata(result, {field: value}) for value in distinct(result, field)}
    values = [value for value, found in by_value.items() if found]
    if not values:
        raise ValueError("there is nothing to compare: no setting has a final return")
    groups = [by_value[value] for value in values]
    low, high = np.array([spread(group)[1:] for group in groups]).T
    return Sensitivity(
        values,
        np.array([iqm(np.concatenate(group)) for group in groups]),
        low,
        high,
        all(isinstance(value, int | float) and np.isfinite(value) for value in values),
        len(values) == len(result.summary["setting"]) and len(result.fields) > 1,
    )


def check_fields(result: "SweepResult", *names: str) -> None:
    """Refuse a field that was not swept."""
    for name in names:
        if name not in result.fields:
            raise ValueError(f"{name!r} was not swept: choose from {', '.join(result.fields)}")


def distinct(result: "SweepResult", field: str) -> list[Any]:
    """The values of a field, in order."""
    values: list[Any] = np.unique(result.summary[field]).tolist()
    return values


def varied_fields(result: "SweepResult") -> list[str]:
    """Fields of which more than one value was tried."""
    return [field for field in result.fields if len(distinct(result, field)) > 1]


def strata(result: "SweepResult", chosen: dict[str, Any]) -> list[np.ndarray]:
    """Final returns of each setting that has the chosen values, and any to compare."""
    returns = result.compared[settings_with(result, chosen)]
    return list(returns[np.isfinite(returns).all(axis=1)])


def settings_with(result: "SweepResult", chosen: dict[str, Any]) -> np.ndarray:
    """Numbers of the settings that have the chosen values."""
    keep = np.all([result.summary[name] == value for name, value in chosen.items()], axis=0)
    return np.sort(result.summary["setting"][keep])
