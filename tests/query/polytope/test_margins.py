"""Boundaries of polytopes: worked out on paper, against dense Jacobians, and against linear programs."""

import signal
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch.profiler import profile

from query.polytope.boundaries import across, crossed, nearest_boundaries
from query.polytope.crossings import exact_crossings
from query.polytope.exits import first_exits, uniform_directions
from query.polytope.margins import SmoothMargins, margins_at, only_growing
from query.polytope.names import names_of, sites_of
from tests.query.polytope.grids import pooled_first_tail, pooled_pixel_tail, random_grid_tail, wide_grid_tail

NONE = lambda share: None  # noqa: E731


def dense(tail, point):
    """All margins at a point and their gradients, of every gate and every input of every window, by `jacrev`."""
    precise = tail.precise()

    def gates_and_windows(x):
        state, gates, windows = precise.enter(x[None]), [], []
        for stage in precise.stages:
            values = stage.preactivations(state)
            inputs = stage.windows(state)[0]
            if len(inputs):
                taken = stage.switches(state)[0].long()
                windows.append((inputs.gather(1, taken[:, None]) - inputs).flatten())
            gates.append(values[0])
            state = stage.advance(state, values)
        return torch.cat(gates), torch.cat(windows)

    x = torch.from_numpy(point)
    values = gates_and_windows(x)
    slopes = torch.func.jacrev(gates_and_windows)(x)
    signs = torch.where(values[0] > 0, 1.0, -1.0)
    rows = torch.cat([slopes[0] * signs[:, None], slopes[1]]).numpy()
    return torch.cat([values[0] * signs, values[1]]).numpy(), rows


def point_of(seed):
    return np.random.default_rng([seed, 3]).standard_normal(18).astype(np.float32).astype(np.float64)


@pytest.fixture(params=range(4))
def grid(request):
    tail, point = random_grid_tail(request.param), point_of(request.param)
    return tail, point, margins_at(tail, tail.later, point)


def test_a_pooled_pixel_as_on_paper():
    """x = (3, 2, 0, 1) takes its first input; the gate is on by 2, and of length 1."""
    tail = pooled_pixel_tail()
    margins = margins_at(tail, tail.later, np.array([3.0, 2, 0, 1]))
    found = nearest_boundaries(margins, 10)
    np.testing.assert_allclose(found.distances, [0.5**0.5, 2**0.5, 2, 3 * 0.5**0.5])
    names = names_of(margins, found.numbers)
    assert names["kind"].tolist() == ["pooling", "pooling", "gate", "pooling"]
    assert names["other_column"].fillna(-1).tolist() == [1, 1, -1, 0]
    assert names["other_row"].fillna(-1).tolist() == [0, 1, -1, 1]
    beyond = across(margins, found)
    assert beyond.facet.tolist() == [True, True, False, False]  # 3 to 1, and 3 and 0 to 1.5, pass x₀ = 2 first
    flips, verified = crossed(margins, beyond)
    assert flips.tolist()[:2] == [0, 0] and verified[:2].all()


def test_sites_are_those_of_the_names(grid):
    """Of gates and of pooling windows, and of none."""
    _, _, margins = grid
    boundaries = np.arange(len(margins.values))
    assert sites_of(margins, boundaries) == names_of(margins, boundaries)["site"].tolist()
    assert sites_of(margins, boundaries[:0]) == []


def test_tied_inputs_are_counted_apart():
    """Of a window of 2, 2, 0, 1 two inputs are tied: x lies on that boundary, and the others are still listed."""
    tail = pooled_pixel_tail()
    margins = margins_at(tail, tail.later, np.array([2.0, 2, 0, 1]))
    found = nearest_boundaries(margins, 10)
    assert names_of(margins, found.tied)[["kind", "other_column"]].values.tolist() == [["pooling", 1]]
    np.testing.assert_allclose(found.distances, [0.5**0.5, 1, 2**0.5])


def test_lengths_rates_gradients_are_dense(grid):
    """All margins, distances, rates and gradients are those of the dense Jacobian; of windows none is lost."""
    tail, point, margins = grid
    values, rows = dense(tail, point)
    gates = margins.n_gates
    np.testing.assert_allclose(margins.values[:gates], values[:gates], atol=1e-12)
    every = np.arange(len(margins.values))
    found = margins.gradients(every)
    np.testing.assert_allclose(found[:gates], rows[:gates], atol=1e-12)
    directions = uniform_directions(np.random.default_rng(0), 5, 18)
    np.testing.assert_allclose(margins.rates(directions, precise=True), directions @ found.T, atol=1e-12)
    np.testing.assert_allclose(margins.rates(directions), directions @ found.T, atol=1e-5)
    lengths = margins.lengths(np.zeros(18, bool), NONE)
    np.testing.assert_allclose(lengths[:gates], np.linalg.norm(rows[:gates], axis=1), rtol=1e-5, atol=1e-6)
    assert (lengths[gates:] >= np.linalg.norm(found[gates:], axis=1) * (1 - 1e-5)).all()
    # Every boundary of a window is one of ours: the same margin and gradient.
    ours = np.column_stack([margins.values, found])
    for row in np.column_stack([values, rows])[gates:]:
        assert not np.abs(row[1:]).max() > 1e-12 or np.abs(ours - row).max(axis=1).min() < 1e-9


def test_facets_by_linear_programs(grid):
    """The nearest boundaries are those of the dense Jacobian; what is called a facet is one, and the nearest is."""
    tail, point, margins = grid
    values, rows = dense(tail, point)
    lengths = np.linalg.norm(rows, axis=1)
    proper = (lengths > 1e-12) & (values > 1e-12)
    found = nearest_boundaries(margins, 12)
    expected = np.unique((values[proper] / lengths[proper]).round(10))
    np.testing.assert_allclose(
        np.unique(found.distances.round(10)), expected[: len(np.unique(found.distances.round(10)))]
    )
    beyond = across(margins, found)
    assert beyond.facet[0]
    every = margins.gradients(np.arange(len(margins.values)))
    for number, facet in zip(found.numbers, beyond.facet, strict=True):
        others = np.setdiff1d(np.arange(len(every)), np.append(number, found.tied))
        # max −m_j over the points where all other margins are positive: above 0 where j cuts something off.
        program = linprog(every[number], A_ub=-every[others], b_ub=margins.values[others], bounds=(None, None))
        cuts = program.status == 3 or -program.fun - margins.values[number] > 1e-9
        assert cuts or not facet
    flips, verified = crossed(margins, beyond)
    assert verified[beyond.facet].all()
    gate = found.numbers < margins.n_gates
    assert (flips[beyond.facet] == gate[beyond.facet]).all()


def test_inradius_and_rays_by_programs(grid):
    """The inradius is that of the largest ball about x within all half-spaces; rays leave through facets alone."""
    tail, point, margins = grid
    values, rows = dense(tail, point)
    proper = values > 1e-12
    within = np.column_stack([np.linalg.norm(rows, axis=1)[proper]])
    program = linprog([-1.0], A_ub=within, b_ub=values[proper])  # max r: r‖g_j‖ ≤ m_j(x) for all j
    assert nearest_boundaries(margins, 1).distances[0] == pytest.approx(program.x[0], rel=1e-9)
    numbers, distances = first_exits(margins, uniform_directions(np.random.default_rng(3), 200, 18))
    every = margins.gradients(np.arange(len(margins.values)))
    assert (distances >= program.x[0] * (1 - 1e-9)).all()
    for number in np.unique(numbers[numbers >= 0]):
        same = np.linalg.norm(every - every[number], axis=1) < 1e-12
        others = ~same & (margins.values > 1e-12)
        facet = linprog(every[number], A_ub=-every[others], b_ub=margins.values[others], bounds=(None, None))
        assert facet.status == 3 or -facet.fun - margins.values[number] > 1e-9


def test_exits_agree_with_exact_crossings(grid):
    tail, point, margins = grid
    directions = uniform_directions(np.random.default_rng(1), 30, 18)
    numbers, distances = first_exits(margins, directions)
    for direction, number, distance in zip(directions, numbers, distances, strict=True):
        found = exact_crossings(tail.precise(), point, point + 2 * distance * direction, tail.later)
        first = min([*found.at[:1], *found.switches[:1]])
        assert 2 * first * distance == pytest.approx(distance, rel=1e-9)
        assert number == found.gate[0] if first in found.at[:1] else number >= margins.n_gates


@pytest.mark.parametrize("level", [0, 1])
def test_ties_are_broken_by_the_direction(level):
    """From a point with tied zeros, and on its way to each boundary, the network itself is met as foretold."""
    tail = pooled_first_tail(1)
    point = np.abs(point_of(11))
    point[:8] = level  # three windows of the first channel hold nothing else
    margins = margins_at(tail, tail.later, point)
    found = nearest_boundaries(margins, 10)
    assert len(found.tied)
    beyond = across(margins, found)
    assert not np.allclose(beyond.met, found.distances)
    assert crossed(margins, beyond)[1][beyond.facet].all() and beyond.facet.any()
    directions = uniform_directions(np.random.default_rng(1), 20, 18)
    numbers, distances = first_exits(margins, directions)
    for direction, number, distance in zip(directions, numbers, distances, strict=True):
        crossing = exact_crossings(tail.precise(), point, point + 2 * distance * direction, tail.later)
        first = min([*crossing.at[:1], *crossing.switches[crossing.switches > 1e-9][:1]])
        assert 2 * first == pytest.approx(1, rel=1e-9)
        assert number == crossing.gate[0] if first in crossing.at[:1] else number >= margins.n_gates


def test_a_sketch_finds_the_same(grid):
    """Its distances are exact; what it may miss is bounded."""
    *_, margins = grid
    found, sketched = nearest_boundaries(margins, 5), nearest_boundaries(margins, 5, sketch=512)
    assert sketched.numbers.tolist() == found.numbers.tolist()
    np.testing.assert_array_equal(sketched.distances, found.distances)
    assert found.missed == 0 < sketched.missed < 1e-9


def test_growing_units_shorten_gradients(grid):
    """Units that are 0 only grow: distances are those of the least step of that kind (quadratic cone by hand)."""
    tail, _, _ = grid
    point = np.maximum(point_of(9), 0)
    grow = point == 0
    margins = margins_at(tail, tail.later, point)
    found = nearest_boundaries(margins, 3, grow=grow)
    values, rows = dense(tail, point)
    lengths = np.linalg.norm(np.where(grow & (rows > 0), 0, rows), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(lengths > 1e-12, values / lengths, np.inf)
    expected = np.unique(expected[(values > 1e-12) & np.isfinite(expected)].round(10))
    np.testing.assert_allclose(
        np.unique(found.distances.round(10)), expected[: len(np.unique(found.distances.round(10)))]
    )
    free = nearest_boundaries(margins, 3)
    assert (found.distances >= free.distances * (1 - 1e-12)).all()
    assert (only_growing(np.array([[1.0, -1.0]]), np.array([True, True])) == [[0, -1]]).all()


class Plain:
    """A tail that hides that it is piecewise linear."""

    def __init__(self, tail):
        shown = ("site", "later", "remark", "n_outputs", "batch", "device", "dtype")
        for name in (*shown, "output_name", "logits", "preactivations", "read"):
            setattr(self, name, getattr(tail, name))
        self.exact = False


def test_a_linearisation_has_the_same_gates(grid):
    """Of a network that is piecewise linear after all, the linearisation at a point is the network."""
    tail, point, margins = grid
    smooth = SmoothMargins(Plain(tail.precise()), tail.later, point)
    gates, grow = margins.n_gates, np.zeros(18, bool)
    np.testing.assert_allclose(smooth.values, margins.values[:gates])
    np.testing.assert_allclose(smooth.lengths(grow, NONE), margins.lengths(grow, NONE)[:gates], rtol=1e-5, atol=1e-6)
    directions = uniform_directions(np.random.default_rng(2), 3, 18)
    np.testing.assert_allclose(
        smooth.rates(directions), margins.rates(directions, precise=True)[:, :gates], atol=1e-9
    )


def test_growing_in_blocks_is_as_without(grid):
    """Where blocks are known all lengths are as where nobody knows them, units that only grow included."""
    tail, _, _ = grid
    point = np.maximum(point_of(5), 0)
    plain = margins_at(Unblocked(tail), tail.later, point)
    for grow in (np.zeros(18, bool), point == 0):
        found, expected = margins_at(tail, tail.later, point).lengths(grow, NONE), plain.lengths(grow, NONE)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class Unblocked(Plain):
    """A piecewise linear tail whose stages keep their blocks to themselves."""

    def __init__(self, tail):
        super().__init__(tail)
        self.exact, self.enter, self.precise = True, tail.enter, tail.precise
        self.stages = tuple(Stage(stage) for stage in tail.stages)


class Stage:
    def __init__(self, stage):
        for name in ("gates", "preactivations", "windows", "switches", "advance"):
            setattr(self, name, getattr(stage, name))


@pytest.mark.slow
@pytest.mark.parametrize("residual", [True, False])
def test_no_units_by_gates_in_memory(residual):
    """All lengths and some exits of 2,048 units and 6,144 gates: no tensor has a quarter of the Jacobian's bytes, nor
    have all arrays of NumPy together."""
    tail = wide_grid_tail(residual)
    point = np.abs(np.random.default_rng(0).standard_normal(2048))
    jacobian = 4 * len(point) * sum(site.n_gates for site in tail.later)
    tracemalloc.start()
    try:
        with profile(profile_memory=True) as seen:
            margins = margins_at(tail, tail.later, point)
            nearest_boundaries(margins, 2)
            first_exits(margins, uniform_directions(np.random.default_rng(0), 40, len(point)))
        assert tracemalloc.get_traced_memory()[1] < jacobian / 4
    finally:
        tracemalloc.stop()
    assert 0 < max(event.self_cpu_memory_usage for event in seen.events()) < jacobian / 4


@pytest.mark.parametrize("residual", [True, False])
def test_ctrl_c_stops_within_a_batch(residual):
    """Of lengths and of exits no further batch is begun once the signal has come."""
    tail = wide_grid_tail(residual)
    margins = margins_at(tail, tail.later, np.abs(np.random.default_rng(0).standard_normal(2048)))
    rays = uniform_directions(np.random.default_rng(0), 600, 2048)
    for ask in (
        lambda told: nearest_boundaries(margins, 2, told=told),
        lambda told: first_exits(margins, rays, told),
    ):
        shares = []

        def press(share, shares=shares):
            shares.append(share)
            if len(shares) == 2:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            ask(press)
        assert len(shares) == 2 and 0 == shares[0] < shares[1] < 1
