"""Action distributions in NumPy: log-density, entropy, KL."""

import numpy as np


def probabilities(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def categorical_log_prob(logits, action):
    return np.log(np.take_along_axis(probabilities(logits), action[..., None], -1)[..., 0])


def categorical_entropy(logits):
    p = probabilities(logits)
    return -(p * np.log(p)).sum(-1)


def categorical_kl(logits, other):
    p, q = probabilities(logits), probabilities(other)
    return (p * np.log(p / q)).sum(-1)


def gaussian_log_prob(mean, log_std, action):
    z = (action - mean) / np.exp(log_std)
    return (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)


def gaussian_entropy(mean, log_std):
    return (log_std + 0.5 * np.log(2 * np.pi * np.e) + 0 * mean).sum(-1)


def gaussian_kl(mean, log_std, other_mean, other_log_std):
    variance_ratio = np.exp(2 * (log_std - other_log_std))
    distance = ((mean - other_mean) / np.exp(other_log_std)) ** 2
    return (0.5 * (variance_ratio + distance - 1) + other_log_std - log_std).sum(-1)


def tanh_gaussian_log_prob(mean, log_std, x):
    """log-density of y = tanh(x) at x, by the change of variables."""
    slope = np.log1p(-(np.tanh(x) ** 2))
    return gaussian_log_prob(mean, log_std, x) - slope.sum(-1)
