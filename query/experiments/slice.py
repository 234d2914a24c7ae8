"""A two-dimensional slice of the polytopes of an activation space (SCIENCE 6; post: the figure of inception5a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import NotStored, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import INPUT, Site
from atlas.store.catalog import NetworkRecord
from atlas.tails import Tail

from ..examples.live import Begun, Live, labels_of_examples, place_of
from ..examples.subjects import Given
from ..polytope.directions import named_direction
from ..polytope.exits import first_exits
from ..polytope.margins import margins_at
from ..progress import Progress, tell
from .claims import SLICED, Before, Claim, Part, counts, span_at
from .figures import GREY, PALETTE, finish, one_line, text
from .options import CommonOptions
from .planes import Grid, Plane, Polyline, find_boundaries, polylines, read_regions
from .record import Experiment
from .result import Result
from .schema import Column, table_of
from .stored_json import plain

LETTERS = "abc"
"""What a plane goes through."""

NOT_STORED = -1
"""In place of the id of an example, of an input that was read now."""

LARGEST = 2048
"""Points a side at most: 4 million codes."""

MARGIN = 0.25
"""How far the window reaches beyond the three examples, as a share of the space that they take."""

IN_PLANE = 1e-3
"""Distance from the plane, relative to the window, below which an example counts as lying in it: an eighth of a
grid step of the default size."""

MOST_COMPARED = 20_000
"""Examples whose stored activations are looked at for lying in the plane."""

SLACK = 0.05
"""How far a drawn line may be from the boundary found, in steps of the grid: a twentieth of a pixel."""

SIDES = 64
"""Rays by which the circle around an example is found: it is a thousandth smaller than it might be."""

MOST_CIRCLES = 200
"""Examples that a circle is sought for: seconds for a small network."""

CIRCLES_NAMED = 3
"""Circles whose radius the legend says: those of a, b and c."""

BLURRED = 8
"""Steps of single precision below which a step of the grid is remarked on: three bits say where a boundary lies."""

FEW = 12
"""Examples up to which each is a large white mark; more are small and have the colour of their label's class."""

PLOT, LETTER, LABEL, MARK = 300, 7.5, 16, 6
"""Pixels, by which labels are kept apart: a side of the plot in a small window, so that in a larger one they are
farther; the width of a letter, the height of a label, half a mark."""

RESOLVED = 2
"""Points of the grid a polytope, on the average, from which on areas are drawn; of fewer, they would be the grid."""

FINE = 8
"""Points a polytope that `closer` aims at."""

SHADES = 7
"""Shades of a class's colour by which neighbouring polytopes are told apart."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    span: str
    """AFTER->TO. The plane lies in the activation space of AFTER; the boundaries are those of the gates after it."""

    a: int | None = None
    """An example in the plane; in a language model its token (or else the first example's) is the one whose vector is
    replaced, and its sequence the rest."""

    b: int | None = None
    """A second."""

    c: int | None = None
    """A third, which fixes the plane."""

    directions: Sequence[str] | None = None
    """Two of random:SEED, unit:NUMBER or METHOD:COMPONENT (a stored direction, such as pca:0), from a, or from the
    origin without it. Inputs of two numbers need neither examples nor directions: they are a plane."""

    reach: float | None = None
    """Half the width of the window, in units of distance; by default it holds the three examples, or is the length of
    the activation of a; of a plane of inputs through the origin it holds the data."""

    middle: Sequence[float] | None = None
    """U and v of the middle of the window; by default that of the three examples, or where the directions start."""

    zoom: float = 1.0
    """How many times smaller the window is made, about its middle."""

    size: int = 256
    """Points a side of the grid."""

    lines: int = 300
    """Boundaries drawn as lines, at most; more are thinned out at random."""


TABLES = {
    "table": table_of(
        "a class",
        Column("class", str, "what is predicted"),
        Column("points", int, "points of the grid where it is"),
        Column("share", float, "of all points"),
        Column("polytopes", int, "distinct polytopes among them"),
    ),
    "summary": table_of(
        "the slice",
        Column("polytopes", int, "distinct ones on the grid: the window meets at least as many"),
        Column("codes", int, "distinct codes on the grid, whatever the pooling switches"),
        Column("points", int, "points of the grid"),
        Column("gates", int, "gates of the span"),
        Column("gates_crossed", int, "gates on at some points and off at others"),
        Column("lines", int, "gates whose boundaries are drawn"),
        Column("exact_lines", float, "share of the length of the lines, in grid cells, that is exact"),
    ),
    "grid": table_of(
        "a point of the grid; u and v follow from the parameters",
        Column("row", int, "from 0, along v"),
        Column("column", int, "from 0, along u"),
        Column("polytope", int, "number of the polytope that it lies in"),
        Column("code", int, "number of its code"),
        Column("class", int, "row of the main table"),
    ),
    "boundaries": table_of(
        "a point of a polyline",
        Column("line", int, "number of the polyline"),
        Column("site", str, "that holds the gate"),
        Column("gate", int, "bit of the site's code"),
        Column("u", float, "where it lies"),
        Column("v", float, "where it lies"),
        Column("exact", float, "share of the polyline that is exact"),
    ),
    "sites": table_of(
        "a site of the span",
        Column("site", str, "name of the site"),
        Column("gates", int, "its gates"),
        Column("crossed", int, "those on at some points and off at others"),
    ),
    "examples": table_of(
        "an example that lies in the plane",
        Column("example", int, "id of the example; -1 of an input that is not stored"),
        Column("u", float, "where it lies"),
        Column("v", float, "where it lies"),
        Column("distance", float, "from the plane"),
        Column("label", str, "its label"),
        Column("named", str, "a, b or c; empty for others"),
        Column(
            "radius",
            float,
            "of the circle around it in the plane that no boundary cuts but those that it lies on; NaN where the "
            "network is not piecewise linear or no boundary is met, and beyond the first 200",
        ),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Find the polytopes, boundaries and classes that a plane through an activation space meets.

    A polytope is a code with the pooling switches of the span; without max-pooling in it, a code.

    Raises `UsageError` for the same example twice, three points on one line, an impossible window; `NotStored`,
    `UnknownName`.
    """
    named = zip(LETTERS, (options.a, options.b, options.c), strict=True)
    given = {name: Given(example=example) for name, example in named if example is not None}
    return _measured(atlas, options, given, reader, progress)


def through(
    atlas: Atlas,
    reader: Network,
    *,
    given: Mapping[str, Given],
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """A slice through subjects of which any may be read now: tokens of a text that is not stored, an image.

    ``given``: the subjects by their letters, a, b and c, or a alone beside two ``directions``; ``options``: the
    others of `Options`. In the table of examples what is not stored has the id -1. Such a result is not to be saved.

    Raises what `measure` raises, `NonFinite`, and `UsageError` for a code, which has no activation.
    """
    filled = EXPERIMENT.filled(options)
    assert isinstance(filled, Options)
    result = _measured(atlas, filled, given, reader, progress)
    return replace(result, parameters=plain({**asdict(filled), **result.parameters}), draw=figure)


def _measured(
    atlas: Atlas, options: Options, given: Mapping[str, Given], reader: Network, progress: Progress | None
) -> Result:
    for name, value, least, most in (("size", options.size, 2, LARGEST), ("lines", options.lines, 0, None)):
        whole(name, value, least, most)
    if not 0 < options.zoom < np.inf:
        raise UsageError(
            f"zoom is {options.zoom!r}; expected a number above 0, such as 4 for a window a quarter as wide"
        )
    live = Live(atlas, reader, place_of(reader, span=options.span))
    named, plane, window = _plane(atlas, live, given, options.directions, options.reach)
    grid = _grid(_moved(window, options.middle), options.zoom, options.size, plane)
    around = next(iter(named.values()), None) or _any_example(live)
    tail, sites = around.tail, live.place.sites
    regions = read_regions(tail, grid, sites, lambda done, total: tell(progress, done, 2 * total))
    rng = np.random.default_rng([options.seed, 6])
    drawn = np.sort(rng.permutation(regions.varies)[: options.lines])
    found = find_boundaries(tail, grid, sites, drawn, lambda done, total: tell(progress, total + done, 2 * total))
    joined = polylines(found, SLACK * (grid.u[1] - grid.u[0]))
    tell(progress, 1, 1)
    classes, table = _classes(tail, regions.output, regions.polytope)
    exact = float(found.exact.mean()) if len(found.exact) else np.nan
    parameters = {
        "span": live.place.name,
        "n_gates": live.place.n_gates,
        "sequence": around.example if live.held else None,
        "u": grid.u[[0, -1]],
        "v": grid.v[[0, -1]],
    }
    summary = {
        "polytopes": int(regions.polytope.max()) + 1,
        "codes": int(regions.code.max()) + 1,
        "points": options.size * options.size,
        "gates": live.place.n_gates,
        "gates_crossed": len(regions.varies),
        "lines": len(drawn),
        "exact_lines": exact,
    }
    rows, columns = np.indices(regions.polytope.shape)
    tables = {
        "table": table,
        "summary": pd.DataFrame([summary]),
        "grid": pd.DataFrame(
            {
                "row": rows.ravel(),
                "column": columns.ravel(),
                "polytope": regions.polytope.ravel(),
                "code": regions.code.ravel(),
                "class": classes.ravel(),
            }
        ),
        "boundaries": _boundaries(joined, sites),
        "sites": _sites(regions.varies, sites),
        "examples": _with_radii(_examples_in(atlas, live, plane, grid, named), named, live, tail, plane),
    }
    return Result("slice", live.owner.name, parameters, tables, _notes(tail, summary, live, grid, around))


def figure(result: Result) -> go.Figure:
    """Classes as colours, polytopes as shades if they are resolved, boundaries as lines, examples as marks with their
    circles."""
    drawing = go.Figure()
    p, table = result.parameters, result.table
    (u0, u1), (v0, v1) = p["u"], p["v"]
    classes = _raster(result, "class")
    names = np.array([text(name) for name in table["class"]], dtype=object)
    places = {"x": np.linspace(u0, u1, p["size"]), "y": np.linspace(v0, v1, p["size"])}
    drawing.add_trace(
        go.Heatmap(
            z=classes,
            **places,
            customdata=_raster(result, "polytope"),
            colorscale=_colours(len(table)),
            zmin=-0.5,
            zmax=len(table) - 0.5,
            showscale=False,
            opacity=0.75,
            text=names[classes],
            hovertemplate="%{text}<br>polytope %{customdata}<br>u = %{x:.4g}, v = %{y:.4g}<extra></extra>",
        )
    )
    [s] = result.tables["summary"].to_dict("records")
    if not unresolved(s):
        drawing.add_trace(
            go.Heatmap(
                z=_raster(result, "polytope") * 5 % SHADES,
                **places,
                colorscale=[[0, "rgba(255,255,255,0.45)"], [1, "rgba(0,0,0,0.2)"]],
                showscale=False,
                hoverinfo="skip",
            )
        )
    boundaries = result.tables["boundaries"]
    for place, site in enumerate(boundaries["site"].unique()):
        lines = boundaries[boundaries["site"] == site]
        u, v = _with_gaps(lines)
        dash = PALETTE[place % len(PALETTE)].dash
        drawing.add_trace(
            go.Scatter(
                x=u,
                y=v,
                mode="lines",
                line={"width": 0.8, "color": "#222222", "dash": dash},
                hoverinfo="skip",
                legendgroup=site,
                showlegend=False,
            )
        )
        name = f"boundaries of {site}, {lines['line'].nunique()} lines"
        drawing.add_trace(_key(name, site, mode="lines", line={"width": 1.5, "color": GREY, "dash": dash}))
    for place, row in enumerate(table.head(len(PALETTE)).to_dict("records")):
        drawing.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=f"{one_line(row['class'])}, {row['share']:.0%}",
                marker={"symbol": "square", "size": 12, "color": PALETTE[place].colour},
            )
        )
    examples = result.tables["examples"]
    marked = examples.to_dict("records")
    drawing.add_trace(
        go.Scatter(
            x=examples["u"],
            y=examples["v"],
            mode="markers",
            name=_counted_examples(result),
            marker={
                "symbol": "circle",
                "size": 10 if len(examples) <= FEW else 6,
                "color": _mark_colours(result),
                "line": {"color": "#000000", "width": 2 if len(examples) <= FEW else 1},
            },
            hovertext=[_called(row) for row in marked],
            hoverinfo="text",
        )
    )
    if radii := [row["radius"] for row in marked if _inscribed(row)]:
        look, around = {"width": 1.6, "color": "#ffffff"}, "circles"
        drawing.add_trace(
            go.Scatter(
                **_circles(marked), mode="lines", line=look, hoverinfo="skip", legendgroup=around, showlegend=False
            )
        )
        name = f"inscribed circles, of radius {', '.join(f'{radius:.2g}' for radius in radii[:CIRCLES_NAMED])}"
        marker = {"symbol": "circle-open", "size": 11, "color": GREY, "line": {"width": 2}}
        drawing.add_trace(_key(name, around, mode="markers", marker=marker))
    named = [row for row in marked if row["named"]]
    called = [row["named"] if row["example"] == NOT_STORED else f"{row['named']} {row['example']}" for row in named]
    for row, name, (xshift, yshift) in zip(named, called, _beside(result, named, called), strict=True):
        drawing.add_annotation(
            x=row["u"],
            y=row["v"],
            text=name,
            showarrow=False,
            xshift=xshift,
            yshift=yshift,
            bgcolor="rgba(255,255,255,0.85)",
            font={"size": 12},
        )
    drawing.update_xaxes(title="u, distance in the activation space", range=[u0, u1], constrain="domain")
    drawing.update_yaxes(
        title="v, distance in the activation space", range=[v0, v1], scaleanchor="x", constrain="domain"
    )
    return finish(
        drawing,
        f"Slice through the polytopes of {p['span']} of {result.network}",
        f"{_counted(s)} met by {s['points']:,} points; {s['gates_crossed']:,} of {s['gates']:,} gates change",
        result.notes,
        height=640,
    )


def unresolved(summary: Mapping[Any, Any]) -> bool:
    """Whether nearly each point of the grid lies in a polytope of its own: how many there are it can't say.

    ``summary``: the row of the table of that name.
    """
    return bool(RESOLVED * summary["polytopes"] > summary["points"])


def closer(result: Result) -> dict[str, Any]:
    """Options of a window inside a slice, about a or else its middle, in which the grid is expected to tell polytopes
    apart: of n boundaries that cross it, n / z cross one z times as narrow, and part it into about (n / z)² / 2."""
    [summary] = result.tables["summary"].to_dict("records")
    (u0, u1), (v0, v1) = result.parameters["u"], result.parameters["v"]
    named = result.tables["examples"].query("named == 'a'")[["u", "v"]].to_numpy(np.float64)
    middle = named[0].tolist() if len(named) else [(u0 + u1) / 2, (v0 + v1) / 2]
    narrower = float(np.sqrt(2 * summary["points"] / FINE)) / max(1, summary["gates_crossed"])
    return {"middle": middle, "reach": float(u1 - u0) / 2 * min(0.5, narrower)}


def _inside(result: Result, row: Mapping[Any, Any]) -> bool:
    (u0, u1), (v0, v1) = result.parameters["u"], result.parameters["v"]
    return bool(u0 <= row["u"] <= u1 and v0 <= row["v"] <= v1)


def _counted_examples(result: Result) -> str:
    """How many examples are in the window, and how many that the plane goes through are not."""
    inside = [_inside(result, row) for row in result.tables["examples"].to_dict("records")]
    outside = len(inside) - sum(inside)
    return f"examples, n = {sum(inside)}" + (f" ({outside} outside the window)" if outside else "")


def _beside(result: Result, rows: Sequence[Mapping[Any, Any]], names: Sequence[str]) -> list[tuple[float, float]]:
    """Where the label of each mark stands, in pixels from it: the first of four places that is in the window and
    covers neither another mark nor a label before it."""
    (u0, u1), (v0, v1) = result.parameters["u"], result.parameters["v"]
    marks = [((row["u"] - u0) / (u1 - u0) * PLOT, (row["v"] - v0) / (v1 - v0) * PLOT) for row in rows]
    taken: list[tuple[float, float, float, float]] = [(x, y, MARK, MARK) for x, y in marks]
    shifts = []
    for (x, y), name in zip(marks, names, strict=True):
        width = LETTER * len(name) / 2 + 2
        aside = width + MARK + 2
        places = [(0.0, LABEL), (0.0, -LABEL), (aside, 0.0), (-aside, 0.0)]

        def free(place: tuple[float, float], x: float = x, y: float = y, width: float = width) -> bool:
            across, up = x + place[0], y + place[1]
            if not (width <= across <= PLOT - width and LABEL / 2 <= up <= PLOT - LABEL / 2):
                return False
            return all(
                abs(across - other[0]) >= width + other[2] or abs(up - other[1]) >= LABEL / 2 + 1 + other[3]
                for other in taken
            )

        shift = next(filter(free, places), places[0])
        taken.append((x + shift[0], y + shift[1], width, LABEL / 2 + 1))
        shifts.append(shift)
    return shifts


def _called(row: Mapping[Any, Any]) -> str:
    if row["example"] == NOT_STORED:
        return f"{row['named']}, not stored"
    return f"example {row['example']}, {one_line(row['label'])}"


def _key(name: str, group: str, **look: Any) -> go.Scatter:
    """An entry of the legend for lines whose own colour would not be seen on its ground, light or dark."""
    return go.Scatter(x=[None], y=[None], name=name, legendgroup=group, **look)


def _inscribed(row: dict[Any, Any]) -> bool:
    """Whether an example has a circle; results of version 1 have none."""
    return bool(np.isfinite(row.get("radius") or np.nan))


def _circles(marked: Sequence[dict[Any, Any]]) -> dict[str, list[float | None]]:
    """The circles of examples, end to end, with gaps between."""
    x: list[float | None] = []
    y: list[float | None] = []
    around = np.linspace(0, 2 * np.pi, SIDES + 1)
    for row in filter(_inscribed, marked):
        x += [*(row["u"] + row["radius"] * np.cos(around)).tolist(), None]
        y += [*(row["v"] + row["radius"] * np.sin(around)).tolist(), None]
    return {"x": x, "y": y}


def _counted(summary: dict[Any, Any]) -> str:
    """Polytopes, and how many codes they have where max-pooling cuts some of them."""
    polytopes, codes = summary["polytopes"], summary.get("codes", summary["polytopes"])
    counted = f"{polytopes:,} polytopes" + (f" (of {codes:,} distinct codes)" if codes < polytopes else "")
    return f"≥ {counted}, unresolved at this size," if unresolved(summary) else counted


def picture(result: Result, side: int = 1024) -> bytes:
    """The same picture as a PNG, ``side`` pixels a side, drawn without a browser: no text, v upward."""
    import io

    from PIL import Image, ImageDraw

    whole("side", side, 16)
    p, fine = result.parameters, 2 * side  # drawn twice as large: lines come out smooth
    colours = np.array([_rgb(PALETTE[i].colour if i < len(PALETTE) else "#bbbbbb") for i in range(len(result.table))])
    [summary] = result.tables["summary"].to_dict("records")
    shades = np.full(1, SHADES // 2) if unresolved(summary) else _raster(result, "polytope") * 5 % SHADES
    shade = np.broadcast_to(0.75 + 0.35 * shades / (SHADES - 1), _raster(result, "class").shape)
    pixels = np.clip(colours[_raster(result, "class")] * shade[..., None] * 0.7 + 70, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[::-1])).resize((fine, fine), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    low, high = (np.array([p["u"][i], p["v"][i]]) for i in (0, 1))

    def place(points: Any) -> list[tuple[float, float]]:
        at = (np.asarray(points, dtype=np.float64) - low) / (high - low) * fine
        return [(float(x), float(fine - y)) for x, y in at]

    for _, line in result.tables["boundaries"].groupby("line", sort=False):
        draw.line(place(line[["u", "v"]]), fill=(20, 20, 20), width=2)
    shown = result.tables["examples"]
    radius = 14 if len(shown) <= FEW else 9
    for (x, y), colour in zip(place(shown[["u", "v"]]), _mark_colours(result), strict=True):
        around = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(around, fill=_rgb(colour), outline=(0, 0, 0), width=radius // 3)
    for row in filter(_inscribed, shown.to_dict("records")):
        at, reach = np.array([row["u"], row["v"]]), np.array([row["radius"], -row["radius"]])
        first, last = place([at - reach, at + reach])
        draw.ellipse([*first, *last], outline=(255, 255, 255), width=4)
    written = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(written, "PNG", optimize=True)
    return written.getvalue()


# --- the plane -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """Middle (u, v) of what is shown, and half its width."""

    middle: tuple[float, float]
    reach: float


def _plane(
    atlas: Atlas,
    live: Live,
    given: Mapping[str, Given],
    directions: Sequence[str] | None,
    reach: float | None,
) -> tuple[dict[str, Begun], Plane, _Window]:
    """What was named, the plane, and the window onto it."""
    ids = {name: live.checked(each.example) for name, each in given.items() if each.example is not None}
    if len(set(ids.values())) < len(ids):
        raise UsageError(
            f"the same example twice ({', '.join(f'{n} {e}' for n, e in ids.items())}); choose different ones"
        )
    if reach is not None and not 0 < reach < np.inf:
        raise UsageError(f"reach is {reach!r}; expected a distance above 0")
    named = dict(zip(given, live.begin_all(list(given.values())), strict=True))
    points = [begun.activation for begun in named.values()]
    if directions is None and not named and _is_plane(live.place.site):
        directions = ("unit:0", "unit:1")
    if directions is None:
        if len(named) != 3:
            raise UsageError(
                f"a plane goes through three examples, a, b and c, got {', '.join(named) or 'none'}; "
                "or name two directions"
            )
        plane = Plane.through(
            points[0],
            points[1] - points[0],
            points[2] - points[0],
            f"the activations of {', '.join(begun.name for begun in named.values())}",
        )
        at = plane.coordinates(np.stack(points))
        low, high = at.min(axis=0), at.max(axis=0)
        middle, around = (low + high) / 2, float((high - low).max()) / 2 * (1 + 2 * MARGIN)
        return named, plane, _Window((float(middle[0]), float(middle[1])), reach or around)
    if set(named) - {"a"}:
        raise UsageError(
            "with directions the plane starts at a, or at the origin; b and c are not used: leave them out"
        )
    origin = points[0] if named else np.zeros(live.place.site.n_units, np.float32)
    first, second = _directions(atlas, live, directions)
    plane = Plane.through(origin, first, second, f"directions {' and '.join(directions)}")
    length = float(np.linalg.norm(origin))
    if not named and live.place.site.name == INPUT:
        return named, plane, _around_data(live, plane, reach)
    if reach is None and not length:
        raise UsageError("the plane starts at the origin, where no length is known; say how far it goes with reach")
    return named, plane, _Window((0.0, 0.0), reach or length)


def _is_plane(site: Site) -> bool:
    return site.name == INPUT and site.n_units == 2


def _around_data(live: Live, plane: Plane, reach: float | None) -> _Window:
    """The window that holds all inputs, or one of ``reach`` about their middle."""
    at = np.concatenate([plane.coordinates(points) for _, points in live.at_hand()])
    low, high = at.min(axis=0), at.max(axis=0)
    middle, around = (low + high) / 2, float((high - low).max()) / 2 * (1 + 2 * MARGIN)
    return _Window((float(middle[0]), float(middle[1])), reach or around)


def _directions(atlas: Atlas, live: Live, names: Sequence[str]) -> list[Float64[np.ndarray, " units"]]:
    if len(names) != 2:
        raise UsageError(f"a plane has two directions, got {', '.join(names) or 'none'}")
    return [named_direction(atlas, live, name) for name in names]


def _moved(window: _Window, middle: Sequence[float] | None) -> _Window:
    if middle is None:
        return window
    if len(middle) != 2 or not np.isfinite(np.asarray(middle, dtype=np.float64)).all():
        raise UsageError(f"middle is {list(middle)}; expected u and v of the middle of the window, such as 0.5,-2")
    return _Window((float(middle[0]), float(middle[1])), window.reach)


def _grid(window: _Window, zoom: float, size: int, plane: Plane) -> Grid:
    half = window.reach / zoom
    u, v = (np.linspace(middle - half, middle + half, size) for middle in window.middle)
    return Grid(plane, u, v)


def _any_example(live: Live) -> Begun:
    """An example to run on: a language model needs a sequence, whichever, to put vectors of the plane into."""
    examples = live.examples()
    if not len(examples):
        raise NotStored(
            f"network {live.owner.name} has no example in the atlas to run on; `polytope ingest` adds some"
        )
    example = int(examples["example_id"].iloc[0])
    return Begun(f"example {example}", np.empty(0, np.float32), partial(live.tail, example), example)


# --- tables ----------------------------------------------------------------------------------------------------


def _classes(
    tail: Tail, outputs: Int64[np.ndarray, "rows columns"], polytopes: Int64[np.ndarray, "rows columns"]
) -> tuple[Int64[np.ndarray, "rows columns"], pd.DataFrame]:
    """The main table, the commonest class first, and for each point its row there."""
    kinds, number, counts = np.unique(outputs, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.argsort(order, kind="stable")
    table = pd.DataFrame(
        {
            "class": [tail.output_name(int(kinds[i])) for i in order],
            "points": counts[order],
            "share": counts[order] / outputs.size,
            "polytopes": [len(np.unique(polytopes[outputs == kinds[i]])) for i in order],
        }
    )
    return rank[number].reshape(outputs.shape).astype(np.int64), table


def _boundaries(lines: Sequence[Polyline], sites: Sequence[Site]) -> pd.DataFrame:
    starts = np.array(list(accumulate((site.n_gates for site in sites), initial=0)))
    frames = [pd.DataFrame({"line": [], "site": [], "gate": [], "u": [], "v": [], "exact": []})]
    for number, line in enumerate(lines):
        which = int(np.searchsorted(starts, line.gate, side="right")) - 1
        u, v = line.points.T
        frames.append(
            pd.DataFrame(
                {
                    "line": number,
                    "site": sites[which].name,
                    "gate": line.gate - int(starts[which]),
                    "u": u,
                    "v": v,
                    "exact": line.exact,
                }
            )
        )
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _with_radii(
    examples: pd.DataFrame, named: Mapping[str, Begun], live: Live, tail: Tail, plane: Plane
) -> pd.DataFrame:
    """With the radius of each example's circle: the least distance at which `SIDES` rays in the plane meet a
    boundary, shortened so that all of the circle lies between them. From the activation itself: of its projection
    on the plane what is 0 would lie a rounding beside its boundary."""
    around = 2 * np.pi * np.arange(SIDES) / SIDES
    rays = np.column_stack([np.cos(around), np.sin(around)]) @ plane.basis
    radii = np.full(len(examples), np.nan)
    others = examples["example"].to_numpy()[len(named) : MOST_CIRCLES]
    points = [begun.activation for begun in named.values()] + (list(live.activations(others)) if len(others) else [])
    for row, point in enumerate(points if tail.exact else ()):
        margins = margins_at(tail, live.place.sites, point)
        _, distances = first_exits(margins, rays)
        radii[row] = distances.min() * np.cos(np.pi / SIDES)
    return examples.assign(radius=np.where(np.isfinite(radii), radii, np.nan))


def _sites(varies: Int64[np.ndarray, " gates"], sites: Sequence[Site]) -> pd.DataFrame:
    edges = list(accumulate((site.n_gates for site in sites), initial=0))
    crossed = np.histogram(varies, bins=edges)[0]
    return pd.DataFrame({"site": [s.name for s in sites], "gates": [s.n_gates for s in sites], "crossed": crossed})


def _examples_in(atlas: Atlas, live: Live, plane: Plane, grid: Grid, named: Mapping[str, Begun]) -> pd.DataFrame:
    """What was named first, then all other examples at hand that lie in the plane and the window."""
    near = IN_PLANE * float(grid.u[-1] - grid.u[0])
    ids = [NOT_STORED if begun.example is None else begun.example for begun in named.values()]
    blocks = [(np.array(ids, np.int64), np.stack([begun.activation for begun in named.values()]))] if named else []
    if live.n_at_hand <= MOST_COMPARED:
        blocks += live.at_hand()
    rows: list[tuple[int, float, float, float]] = []
    for block, (held, points) in enumerate(blocks):
        away, at = plane.distance(points), plane.coordinates(points)
        inside = (np.abs(at - [grid.u.mean(), grid.v.mean()]) <= np.ptp(grid.u) / 2 * (1 + 1e-9)).all(axis=1)
        chosen = np.ones(len(held), bool) if named and not block else (away <= near) & inside & ~np.isin(held, ids)
        rows += [(int(held[i]), at[i, 0], at[i, 1], float(away[i])) for i in np.flatnonzero(chosen)]
    frame = pd.DataFrame(rows, columns=["example", "u", "v", "distance"])
    known = frame["example"] != NOT_STORED
    labels = pd.Series([None] * len(frame), dtype=object)
    labels[known] = labels_of_examples(atlas, frame.loc[known, "example"].to_numpy()) if known.any() else []
    return frame.assign(label=labels, named=pd.Series([*named, *[None] * (len(frame) - len(named))], dtype=object))


def _switched(summary: dict[str, Any]) -> list[str]:
    if summary["codes"] == summary["polytopes"]:
        return []
    return [
        f"polytopes are told apart by their codes and by which inputs the max-pooling windows of the span take: "
        f"{summary['polytopes']:,}; the gates alone tell {summary['codes']:,} apart"
    ]


def _notes(tail: Tail, summary: dict[str, Any], live: Live, grid: Grid, around: Begun) -> tuple[str, ...]:
    notes = [
        tail.remark,
        f"polytopes are counted at {summary['points']:,} points: those that lie between points are missed, so there "
        "are at least that many",
        *_switched(summary),
    ]
    if live.held:
        what = "that" if around.example is None else f"the {INPUT_KINDS[live.owner.kind].example}"
        notes.append(
            f"the vectors of the plane are put into the place of {what} of {around.name}: {live.held} is its "
            "all along, and codes and classes are read there"
        )
    if summary["lines"] < summary["gates_crossed"]:
        notes.append(f"lines: {summary['lines']:,} of {summary['gates_crossed']:,} boundaries, drawn at random")
    if tail.exact and summary["lines"]:
        notes.append(
            f"{summary['exact_lines']:.0%} of the lines, by grid cells, are exact (no boundary of an earlier stage "
            "cuts the cell, so that the preactivation is affine in it); in the other cells they are interpolated "
            "between its corners"
        )
    elif summary["lines"]:
        notes.append("lines are interpolated between grid points: none is exact")
    if grid.step < BLURRED * grid.resolution:
        notes.append(
            f"neighbouring points are {grid.step:.2g} apart, and single precision tells apart no less than "
            f"{grid.resolution:.2g} here: what is smaller than that is rounding"
        )
    if not live.n_at_hand:
        notes.append("examples other than those named were not looked at: their activations are not stored")
    elif live.n_at_hand > MOST_COMPARED:
        notes.append(f"examples other than those named were not looked at: there are more than {MOST_COMPARED:,}")
    return tuple(notes)


# --- drawing ---------------------------------------------------------------------------------------------------


def _raster(result: Result, column: str) -> Int64[np.ndarray, "rows columns"]:
    grid, size = result.tables["grid"], result.parameters["size"]
    return grid[column].to_numpy(np.int64).reshape(size, size)


def _colours(n: int) -> list[list[Any]]:
    """A scale of n flat colours; after the palette's eight, light grey."""
    scale: list[list[Any]] = []
    for i in range(n):
        colour = PALETTE[i].colour if i < len(PALETTE) else "#dddddd"
        scale += [[i / n, colour], [(i + 1) / n, colour]]
    return scale


def _mark_colours(result: Result) -> list[str]:
    """Of each example: white where they are few, else that of the class that its label names."""
    labels = result.tables["examples"]["label"]
    colours = {name: look.colour for name, look in zip(result.table["class"], PALETTE, strict=False)}
    return ["#ffffff" if len(labels) <= FEW else colours.get(label, "#ffffff") for label in labels]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _with_gaps(lines: pd.DataFrame) -> tuple[list[float | None], list[float | None]]:
    """The points of many lines as one series, a gap after each."""
    u: list[float | None] = []
    v: list[float | None] = []
    for _, line in lines.groupby("line", sort=False):
        u += [*line["u"], None]
        v += [*line["v"], None]
    return u, v


# --- in the report ---------------------------------------------------------------------------------------------


def shown(result: Result) -> pd.DataFrame:
    """The numbers that the report prints; the slice decides nothing."""
    [summary] = result.tables["summary"].to_dict("records")
    points = summary["points"]
    rows = [
        ("distinct polytopes among the points of the grid", summary["polytopes"], points),
        ("distinct codes among them", summary["codes"], points),
        ("gates on at some of the points and off at others", summary["gates_crossed"], summary["gates"]),
        ("share of the length of the lines drawn that is exact", summary["exact_lines"], summary["lines"]),
    ]
    classes = result.table.to_dict("records")
    return counts(
        [
            *rows,
            *((f"share of the points where {row['class']} is predicted", row["share"], points) for row in classes),
        ]
    )


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    """Two examples of one label and one of another, or any three of different inputs."""
    frame = atlas.frame(
        "select min(example_id) as example_id, label from examples where network_id = $1 group by input_id, label "
        "order by example_id",
        [network.network_id],
    )
    if len(frame) < 3:
        raise NotStored(f"network {network.name} has {len(frame)} inputs; a plane needs three examples")
    first, others = frame.iloc[0], frame[1:]
    same, other = (others[alike] for alike in (others["label"] == first["label"], others["label"] != first["label"]))
    ends = (same.iloc[0], other.iloc[0]) if len(same) and len(other) else (others.iloc[0], others.iloc[1])
    a, b, c = (int(row["example_id"]) for row in (first, *ends))
    return {"span": span_at(atlas, network, SLICED), "a": a, "b": b, "c": c, "size": 128}


EXPERIMENT = Experiment(
    name="slice",
    version=2,
    section=6,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    picture=picture,
    live=True,
    quick={"size": 32},
    claims=(
        Claim(
            "slice",
            Part.INTRODUCTION,
            1,
            "The activation space of a layer is cut into polytopes by the gates of all layers after it.",
            asking=_asking,
            shown=shown,
        ),
    ),
)
