"""From frame scores to phone strings: the most probable state path, and its edit distance."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Path = NDArray[np.int64]


def transition_model(labels: list[NDArray[np.int32]], n_states: int) -> tuple[Scores, Scores]:
    """Log priors (states,) and log transitions (from, to), counted on frames, add-one smoothed."""
    prior = np.ones(n_states)
    transition = np.ones((n_states, n_states))
    for label in labels:
        prior += np.bincount(label, minlength=n_states)
        np.add.at(transition, (label[:-1], label[1:]), 1.0)
    return np.log(prior / prior.sum()), np.log(transition / transition.sum(1, keepdims=True))


def best_paths(scores: Scores, lengths: NDArray[np.int64], prior: Scores, transition: Scores) -> list[Path]:
    """Most probable state of every step, for many sequences at once.

    The network's class probabilities stand in for likelihoods after division by the prior:
    maximise log prior(s_0) + sum log transition(s_t-1, s_t) + sum (log p(s_t | x) - log prior(s_t)).

    Args:
        scores: (n, time, states) log probabilities.
        lengths: (n,) steps that count, from the first on.
        prior, transition: from `transition_model`.

    Returns:
        One int array (length,) for each sequence.
    """
    likelihood = scores - prior
    n, time, _ = scores.shape
    best = prior + likelihood[:, 0]
    back = np.zeros(scores.shape, np.int16)
    ends = [best]
    for t in range(1, time):
        through = best[:, :, None] + transition
        back[:, t] = through.argmax(1)
        best = np.take_along_axis(through, back[:, t][:, None].astype(np.int64), 1)[:, 0] + likelihood[:, t]
        ends.append(best)
    paths = []
    for row in range(n):
        state = int(ends[lengths[row] - 1][row].argmax())
        path = [state]
        for t in range(lengths[row] - 1, 0, -1):
            state = int(back[row, t, state])
            path.append(state)
        paths.append(np.array(path[::-1]))
    return paths


def collapse(path: Path) -> Path:
    """Repeats dropped: 1 1 2 2 2 1 becomes 1 2 1."""
    return np.asarray(path[np.concatenate([[True], path[1:] != path[:-1]])])


def edit_distance(a: Path, b: Path) -> int:
    """Levenshtein distance: substitutions, insertions and deletions.

    >>> edit_distance(np.array([1, 2, 3]), np.array([1, 3, 3, 4]))
    2
    """
    offsets = np.arange(len(b) + 1)
    row = offsets.copy()
    for item in a:
        best = np.minimum(row[1:] + 1, row[:-1] + (b != item))
        # An insertion carries the cost from the left: row[j] = min_i<=j (best[i] + j - i).
        row = np.minimum.accumulate(np.concatenate([[row[0] + 1], best]) - offsets) + offsets
    return int(row[-1])
