"""Losses in NumPy, one sample at a time."""

import numpy as np


def policy_gradient(log_prob, advantage):
    return -np.mean([lp * a for lp, a in zip(log_prob, advantage, strict=True)])


def surrogate(ratio, advantage):
    return -np.mean([r * a for r, a in zip(ratio, advantage, strict=True)])


def clipped_surrogate(ratio, advantage, eps):
    """A gain counts only while its ratio is inside [1-ε, 1+ε]; a loss counts always."""
    total = 0.0
    for r, a in zip(ratio, advantage, strict=True):
        total += min(r, 1 + eps) * a if a > 0 else max(r, 1 - eps) * a
    return -total / len(ratio)


def value(value, target):
    return np.mean([(v - g) ** 2 / 2 for v, g in zip(value, target, strict=True)])


def clipped_value(value, old_value, target, eps):
    total = 0.0
    for v, old, g in zip(value, old_value, target, strict=True):
        held = min(max(v, old - eps), old + eps)
        total += max((v - g) ** 2, (held - g) ** 2) / 2
    return total / len(value)


def huber(error):
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 1 / 2


def huber_value(value, target):
    return np.mean([huber(v - g) for v, g in zip(value, target, strict=True)])


def clipped_huber_value(value, old_value, target, eps):
    total = 0.0
    for v, old, g in zip(value, old_value, target, strict=True):
        held = old + min(max(v - old, -eps), eps)
        total += max(huber(v - g), huber(held - g))
    return total / len(value)


def explained_variance(value, target):
    return 1 - np.var(target - value) / np.var(target)
