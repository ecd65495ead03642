"""Advantages and returns in NumPy, from their definitions."""

import numpy as np


def gae(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """Â_t = Σ_k (γλ)^k δ_{t+k}, over the steps up to the end of the episode."""
    T, N = reward.shape
    delta = reward + gamma * next_value * (1 - terminated) - value
    advantage = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            for k in range(T - t):
                advantage[t, n] += (gamma * gae_lambda) ** k * delta[t + k, n]
                if terminated[t + k, n] or truncated[t + k, n]:
                    break
    return advantage


def discounted_returns(reward, done, start, gamma):
    """R_t = Σ_k γ^k r_{t-k}, back to the start of the episode; before t = 0 lies `start`."""
    T, N = reward.shape
    returns = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            for k in range(t + 1):
                if k > 0 and done[t - k, n]:
                    break
                returns[t, n] += gamma**k * reward[t - k, n]
            else:
                returns[t, n] += gamma ** (t + 1) * start[n]
    return returns


def episodes(reward, done):
    """Return and length of each episode that ended, all environments together."""
    returns, lengths = [], []
    for n in range(reward.shape[1]):
        first = 0
        for t in np.flatnonzero(done[:, n]):
            returns.append(reward[first : t + 1, n].sum())
            lengths.append(t + 1 - first)
            first = t + 1
    return returns, lengths
