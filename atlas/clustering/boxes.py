"""Trees of points of few units, where boxes around neighbouring points exclude nearly all distances.

Points are ordered by a k-d tree (Bentley 1975), and each `LEAF` of them that follow one another lie in a box. No
point of a box is nearer than the box is, so a box is left out where that is no less than what could still matter:
the last of a point's nearest, or the largest distance that a point of the box is away from the tree. What is left is
computed by the formula that is used for any number of units, and offered in the same way: the tree is the same, edge
for edge, and takes memory for the points only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ..kernels import _distance, _sift_down, in_threads, njit, slices

LEAF = 32
"""Points in a box: with more, too many distances are computed in vain, with fewer, too many boxes are looked at."""

_GROUP = 16  # boxes that follow one another and are left out together

_SLACK = 1 - 1e-9  # more than rounding can make a distance shorter than the distance of its box
_PIECE = 64  # points of which one thread looks for the nearest before it takes others
_EDGES = 256  # between two looks at Ctrl-C


@dataclass(frozen=True, eq=False)
class Boxes:
    """``order``: the points as they lie in boxes; ``x``: them in this order; ``starts``: where boxes begin, and the
    end; ``low``, ``high``: their corners; ``group_low``, ``group_high``: those of every 16 boxes."""

    order: Int64[np.ndarray, " n"]
    x: Float[np.ndarray, "n units"]
    starts: Int64[np.ndarray, " edges"]
    low: Float64[np.ndarray, "boxes units"]
    high: Float64[np.ndarray, "boxes units"]
    group_low: Float64[np.ndarray, "groups units"]
    group_high: Float64[np.ndarray, "groups units"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "n units"]) -> Boxes:
        order, starts = np.arange(len(x)), []
        left = [(0, len(x))]
        while left:
            start, stop = left.pop()
            if stop - start <= LEAF:
                starts.append(start)
                continue
            some = x[order[start:stop]]
            widest = int(np.argmax(some.max(axis=0) - some.min(axis=0)))
            middle = (stop - start) // 2
            order[start:stop] = order[start:stop][np.argpartition(some[:, widest], middle)]
            left += [(start + middle, stop), (start, start + middle)]
        ordered = x[order]
        low, high = (edge.reduceat(ordered, starts).astype(np.float64) for edge in (np.minimum, np.maximum))
        groups = np.arange(0, len(low), _GROUP)
        corners = low, high, np.minimum.reduceat(low, groups), np.maximum.reduceat(high, groups)
        return cls(order, ordered, np.array([*starts, len(x)]), *corners)

    def cores(
        self, weights: Int64[np.ndarray, " n"], rank: int, tell: Callable[[float], None]
    ) -> Float64[np.ndarray, "2 n"]:
        """For each point the distances that stand at ``rank`` − 1 and ``rank`` among those to all, itself included,
        when point j is counted ``weights[j]`` times. ``tell``: share of the points."""
        n = len(self.x)
        found, weights = np.empty((2, n)), weights[self.order]
        pieces = slices(n, _PIECE)
        for first in range(0, len(pieces), _PIECE):
            in_threads(
                lambda at: _nearest(
                    self.x,
                    self.starts,
                    self.low,
                    self.high,
                    self.group_low,
                    self.group_high,
                    weights,
                    rank,
                    at.start,
                    at.stop,
                    found,
                ),
                pieces[first : first + _PIECE],
            )
            tell(pieces[min(first + _PIECE, len(pieces)) - 1].stop / n)
        out = np.empty_like(found)
        out[:, self.order] = found
        return out

    def grow(
        self, kind: Int64[np.ndarray, " points"], cores: Float64[np.ndarray, " n"], tell: Callable[[int], None]
    ) -> tuple[Int64[np.ndarray, " edges"], Int64[np.ndarray, " edges"], Float64[np.ndarray, " edges"]]:
        """Prim's algorithm, as in `spanning`. ``tell``: points that have joined."""
        n, kinds = len(kind), len(cores)
        place = np.empty(kinds, dtype=np.int64)
        place[self.order] = np.arange(kinds)
        kind, cores = place[kind], cores[self.order]
        members = np.argsort(kind, kind="stable")
        ends = np.cumsum(np.bincount(kind, minlength=kinds))
        at = np.append(0, ends[:-1])
        waiting = members[at]  # of each kind the first that is not in the tree; n where all are
        reach, least = np.full(kinds, np.inf), np.full(len(self.low), np.inf)
        reached_from, joined = np.zeros(kinds, dtype=np.int64), np.zeros(kinds, dtype=np.bool_)
        source, target, length = np.empty(n - 1, np.int64), np.empty(n - 1, np.int64), np.empty(n - 1)
        worst, current = np.full(len(self.low), np.inf), np.array([kind[0], 0])
        group_least, group_worst = np.full((2, len(self.group_low)), np.inf)
        for first in range(0, n - 1, _EDGES):
            last = min(first + _EDGES, n - 1)
            _grow(
                self.x,
                self.starts,
                self.low,
                self.high,
                self.group_low,
                self.group_high,
                cores,
                members,
                ends,
                at,
                waiting,
                reach,
                reached_from,
                joined,
                least,
                worst,
                group_least,
                group_worst,
                current,
                first,
                last,
                source,
                target,
                length,
            )
            tell(last)
        return source, target, length


@njit(nogil=True, cache=True)
def _away(x: Float[np.ndarray, "n units"], i: int, low: np.ndarray, high: np.ndarray, box: int) -> float:
    """No point of the box is nearer to point i."""
    squared = 0.0
    for k in range(x.shape[1]):
        value = np.float64(x[i, k])
        gap = max(low[box, k] - value, value - high[box, k])
        if gap > 0:
            squared += gap * gap
    return np.sqrt(squared) * _SLACK


@njit(nogil=True, cache=True)
def _nearest(
    x: Float[np.ndarray, "n units"],
    starts: Int64[np.ndarray, " edges"],
    low: Float64[np.ndarray, "boxes units"],
    high: Float64[np.ndarray, "boxes units"],
    group_low: Float64[np.ndarray, "groups units"],
    group_high: Float64[np.ndarray, "groups units"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    first: int,
    last: int,
    out: Float64[np.ndarray, "2 n"],
) -> None:
    boxes, groups, size = len(low), len(group_low), min(rank, len(x))
    values, places = np.empty(size), np.empty(size, np.int64)
    own = 0
    for i in range(first, last):
        while starts[own + 1] <= i:
            own += 1
        values[:], places[:] = np.inf, -1
        for step in range(-1, groups):  # its own box, then the others, group by group
            if step >= 0 and _away(x, i, group_low, group_high, step) >= values[0]:
                continue
            for box in range(own, own + 1) if step < 0 else range(step * _GROUP, min((step + 1) * _GROUP, boxes)):
                if step >= 0 and (box == own or _away(x, i, low, high, box) >= values[0]):
                    continue
                for j in range(starts[box], starts[box + 1]):
                    value = _distance(x, i, j)
                    if value < values[0]:
                        _sift_down(values, places, value, j)
        total, before = 0, False
        for place in np.argsort(values):
            total += weights[places[place]]
            if not before and total >= rank - 1:
                out[0, i], before = values[place], True
            if total >= rank:
                out[1, i] = values[place]
                break


@njit(nogil=True, cache=True)
def _grow(
    x: Float[np.ndarray, "n units"],
    starts: Int64[np.ndarray, " edges"],
    low: Float64[np.ndarray, "boxes units"],
    high: Float64[np.ndarray, "boxes units"],
    group_low: Float64[np.ndarray, "groups units"],
    group_high: Float64[np.ndarray, "groups units"],
    cores: Float64[np.ndarray, " n"],
    members: Int64[np.ndarray, " points"],
    ends: Int64[np.ndarray, " n"],
    at: Int64[np.ndarray, " n"],
    waiting: Int64[np.ndarray, " n"],
    reach: Float64[np.ndarray, " n"],
    reached_from: Int64[np.ndarray, " n"],
    joined: Bool[np.ndarray, " n"],
    least: Float64[np.ndarray, " boxes"],
    worst: Float64[np.ndarray, " boxes"],
    group_least: Float64[np.ndarray, " groups"],
    group_worst: Float64[np.ndarray, " groups"],
    at_last: Int64[np.ndarray, " 2"],
    first: int,
    last: int,
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
) -> None:
    """Edges ``first`` up to ``last``. ``least``: how near the nearest waiting point of a box is to the tree;
    ``worst``: from here on a distance tells nothing new about any of its points; ``at_last``: kind and point that
    joined last."""
    done, boxes, groups = len(members), len(least), len(group_least)
    current, point = at_last[0], at_last[1]
    for edge in range(first, last):
        at[current] += 1
        waiting[current] = members[at[current]] if at[current] < ends[current] else done
        if waiting[current] == done:
            reach[current] = np.inf
        new, own = not joined[current], cores[current]
        joined[current] = True
        best, lowest, found = np.inf, done, -1
        for group in range(groups):
            first_box, end_box = group * _GROUP, min((group + 1) * _GROUP, boxes)
            inside = starts[first_box] <= current < starts[end_box]
            bound = group_worst[group]
            if inside or (new and own < bound and _away(x, current, group_low, group_high, group) < bound):
                group_least[group], group_worst[group] = np.inf, 0.0
                for box in range(first_box, end_box):
                    start, stop = starts[box], starts[box + 1]
                    here, bound = start <= current < stop, worst[box]
                    if here or (new and own < bound and _away(x, current, low, high, box) < bound):
                        least[box], worst[box] = np.inf, 0.0
                        for j in range(start, stop):
                            if waiting[j] == done:
                                continue
                            if new and own < reach[j] and cores[j] < reach[j]:
                                away = max(max(_distance(x, current, j), cores[j]), own)
                                if away < reach[j]:
                                    reach[j], reached_from[j] = away, point
                            least[box] = min(least[box], reach[j])
                            if reach[j] > cores[j]:
                                worst[box] = max(worst[box], reach[j])
                    group_least[group] = min(group_least[group], least[box])
                    group_worst[group] = max(group_worst[group], worst[box])
            if group_least[group] > best or group_least[group] == np.inf:
                continue
            for box in range(first_box, end_box):
                if least[box] > best or least[box] == np.inf:
                    continue
                if least[box] < best:
                    best, lowest = least[box], done
                for j in range(starts[box], starts[box + 1]):
                    if reach[j] == best and waiting[j] < lowest:
                        lowest, found = waiting[j], j
        current, point = found, lowest
        source[edge], target[edge], length[edge] = reached_from[current], point, best
    at_last[0], at_last[1] = current, point
