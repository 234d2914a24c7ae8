"""The server: a dozen tools, each a question or two of `query` with an answer that fits a context."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, ParamSpec

import pandas as pd
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field

from atlas.errors import PolytopeError, UsageError
from query import experiments

from ..plain_text import counted
from ..serving.limits import Limits
from ..serving.questions import questions
from ..serving.served import Served
from .pictures import code_picture, map_picture, result_picture
from .texts import told

P = ParamSpec("P")

LIMITS = Limits(rows=10_000, seconds=120.0, megabytes=16)
"""Of what a tool asks; what it tells is far less."""

MOST_ROWS = 200
"""Rows that a tool tells at a time."""

INSTRUCTIONS = """A polytope atlas holds what a neural network did on a dataset: at every site (a block) each example
has a spline code, one bit a gate (on or off), which names the polytope (linear region) that it lies in. Begin with
`describe`: it names the networks, sites, clusterings, maps and experiments that other tools are asked about. Examples
are named by ids. Distances between codes are in gates that differ. `sql` reads every table."""

Site = Annotated[str | None, Field(description="A site, as `describe` lists them: blocks.5.mlp, inception4c.")]
Span = Annotated[str | None, Field(description="Instead of a site, all sites after one: inception4c->, or A->B.")]
NetworkName = Annotated[str | None, Field(description="A network, where several have such a site.")]
Example = Annotated[int | None, Field(description="Id of a stored example.")]
Text = Annotated[
    str | None, Field(description="Instead of an example, a text, which the network of the atlas reads.")
]
Token = Annotated[int | None, Field(description="Which token of the text: from 0, or -1 for the last, the default.")]
Rows = Annotated[int, Field(description="Rows at most.", ge=1, le=MOST_ROWS)]


class AtlasServer(MCPServer):
    """Refuses arguments that a tool does not have, which the SDK would leave out in silence."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the SDK's own. Raises `ToolError` for an argument that the tool does not have."""
        known = {tool.name: tool.input_schema.get("properties", {}) for tool in await self.list_tools()}
        if unknown := [given for given in arguments if name in known and given not in known[name]]:
            raise ToolError(f"{name} has no argument {unknown[0]!r}; it takes {', '.join(known[name]) or 'none'}")
        return await super().call_tool(name, arguments, context)


def explained(tool: Callable[P, Any]) -> Callable[P, Any]:
    """A tool whose errors are told to the assistant: the SDK hides what other exceptions say."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return tool(*args, **kwargs)
        except PolytopeError as error:
            raise ToolError(str(error)) from error

    return call


def create_server(served: Served) -> AtlasServer:
    """A server whose tools are asked about one atlas."""
    server = AtlasServer(
        served.name,
        instructions=INSTRUCTIONS,
        version=version("polytope-atlas"),
        log_level="ERROR",
        description=f"The polytope atlas {served.name}.",
    )
    tools = Tools(served)
    for tool in (
        tools.describe,
        tools.sql,
        tools.nearest,
        tools.subject,
        tools.clusters,
        tools.members,
        tools.membership,
        tools.compare_two,
        tools.boundaries,
        tools.class_density,
        tools.experiment,
        tools.figure,
    ):
        server.add_tool(
            explained(tool),
            name=tool.__name__,
            structured_output=False,
            annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
        )
    return server


class Tools:
    """The tools of one atlas. Their docstrings are what an assistant reads to choose among them."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def _ask(self, question: str, **given: Any) -> Any:
        """What is None is left to the question's default."""
        known = questions()[question].parameters
        wanted = {name: value for name, value in given.items() if value is not None or known[name].default is None}
        return self._served.ask(question, wanted)

    def describe(
        self,
        table: Annotated[
            str | None, Field(description="Instead, the columns of a table for `sql`, with what each means; or all.")
        ] = None,
    ) -> str:
        """Call this first: which networks, sites, datasets, clusterings, maps and stored experiments the atlas holds.

        With ``table`` (a name, or all) it says what the columns mean that `sql` can ask about.
        """
        if table is not None:
            rows = self._served.look(
                lambda a: a.frame(
                    'select "table", "column", type, comment from documentation where $1 in ("table", \'all\')',
                    [table],
                )
            )
            if not len(rows):
                names = self._served.look(lambda a: a.frame('select distinct "table" from documentation order by 1'))
                raise UsageError(f"no table {table!r}; there are {', '.join(names['table'])}")
            return told(f"Columns of {table}.", rows)
        held = self._ask("info")
        sites = held["sites"][held["sites"]["n_codes"] > 0]
        parts = [
            told("Networks.", held["networks"][["name", "kind", "architecture", "n_examples"]]),
            told(
                "Sites with codes; exact: whether equal codes mean the same affine map.",
                sites[["network", "site", "scope", "n_units", "n_gates", "exact", "n_codes", "n_activations"]],
            ),
            told("Datasets.", held["datasets"]),
            told(
                "Clusterings (tools clusters, members).",
                held["clusterings"][
                    ["clustering_id", "network", "target", "space", "metric", "n_clusters", "n_noise"]
                ],
            ),
            told(
                "Maps (tool figure).", self._ask("layouts")[["layout_id", "network", "target", "space", "n_examples"]]
            ),
            told("Stored experiments (tool experiment).", self._stored()),
        ]
        return "\n\n".join(parts)

    def sql(
        self,
        query: Annotated[str, Field(description="One query of DuckDB: select, with, from, describe, summarize.")],
        limit: Rows = 50,
    ) -> str:
        """Count, filter or join anything by one read-only SQL query; `describe` with a table says what columns mean.

        Use it for what no other tool answers. Tables: examples, codes, spline_codes, clusters, cluster_members,
        inputs, sites, networks and more. Macros: hamming(a, b), is_on(code, gate). Page with `limit … offset`.
        """
        rows = self._ask("sql", query=query, limit=limit)
        more = "There are more rows; page by `limit … offset …` in the query." if rows.attrs["truncated"] else ""
        return told(f"{counted(len(rows), 'row')}.", rows, more)

    def nearest(
        self,
        site: Site = None,
        span: Span = None,
        example: Example = None,
        text: Text = None,
        token: Token = None,
        network: NetworkName = None,
        k: Annotated[int, Field(description="How many neighbours.", ge=1, le=MOST_ROWS)] = 10,
        where: Annotated[
            str | None,
            Field(description="Only examples of which this SQL condition holds: label = 'x' and loss < 1."),
        ] = None,
    ) -> str:
        """Which stored examples the network treats most alike: those whose codes differ least from an example's or a
        text's token. Use it to see what else lives in or near a polytope."""
        rows = self._ask(
            "nearest",
            site=site,
            span=span,
            example=example,
            text=text,
            token=token,
            network=network,
            k=k,
            where=where,
        )
        about = rows.attrs
        summary = (
            f"Nearest to {about['subject']} at {about['target']} of {about['network']}, in {about['n_gates']} gates."
        )
        return told(summary, rows, notes=[about[name] for name in ("search_note", "exact_note", "density_note")])

    def subject(
        self,
        text: Annotated[str, Field(description="A text, which the network of the atlas reads.")],
        site: Site = None,
        span: Span = None,
        network: NetworkName = None,
        token: Token = None,
    ) -> str:
        """What tokens a text has, numbered, and how many gates are on at one of them: ask this before `nearest`,
        `membership` or `boundaries` with a text, to know which token to name."""
        found = self._ask("subject", text=text, site=site, span=span, network=network, token=token)
        tokens = pd.DataFrame({"token": range(len(found.tokens or ())), "text": found.tokens or ()})
        on, n_gates = int(found.codes.n_active()[0]), found.codes.n_bits
        return told(f"{found.name} has {on} of {n_gates} gates on at {found.target.name}. Its tokens:", tokens)

    def clusters(
        self,
        clustering: Annotated[int | None, Field(description="Id of a clustering; or a site or span.")] = None,
        site: Site = None,
        span: Span = None,
        network: NetworkName = None,
        limit: Rows = 30,
        offset: Annotated[int, Field(description="Leave out so many, the largest first.", ge=0)] = 0,
    ) -> str:
        """Which groups of examples lie in similar polytopes: the clusters of a clustering, the largest first, with
        their commonest label, how pure they are and a few members in words. `members` lists one whole."""
        rows = self._ask("clusters", clustering=clustering, site=site, span=span, network=network, samples=2)
        ordered = rows.sort_values(["size", "label"], ascending=[False, True]).iloc[offset : offset + limit]
        about = rows.attrs
        summary = (
            f"{counted(len(rows), 'cluster')} of clustering {about['clustering']} ({about['space']} at "
            f"{about['target']} of {about['network']}); label is a cluster's number."
        )
        return told(summary, ordered, _next(offset, len(ordered), len(rows)), [about["note"]])

    def members(
        self,
        clustering: Annotated[int, Field(description="Id of the clustering.")],
        cluster: Annotated[int, Field(description="Number of the cluster; -1 for the noise.")],
        limit: Rows = 20,
        after: Annotated[
            int | None, Field(description="Id of the last example of the page before, for the next page.")
        ] = None,
    ) -> str:
        """Which examples a cluster holds, the strongest members first: use it to say what a cluster is about."""
        rows = self._ask("members", clustering=clustering, cluster=cluster, limit=limit, after=after)
        counts = self._ask("member_counts", clustering=clustering, cluster=cluster, limit=5)
        common = ", ".join(f"{row.value} {row.n}" for row in counts.itertuples())
        more = f"For the next page: after={rows['example_id'].iloc[-1]}." if len(rows) == limit else ""
        summary = f"Cluster {cluster} of clustering {clustering}: {rows.attrs['size']} members; labels: {common}."
        return told(summary, rows, more)

    def membership(
        self,
        clustering: Annotated[int | None, Field(description="Id of a clustering; or a site or span.")] = None,
        site: Site = None,
        span: Span = None,
        network: NetworkName = None,
        example: Example = None,
        text: Text = None,
        token: Token = None,
    ) -> str:
        """In which cluster an example, or a text's token that was never stored, lies, and how strongly."""
        found = self._ask(
            "membership",
            clustering=clustering,
            site=site,
            span=span,
            network=network,
            example=example,
            text=text,
            token=token,
        )
        where = f"clustering {found.clustering} ({found.space} at {found.target} of {found.network})"
        if found.cluster < 0:
            return f"{found.subject} is noise in {where}: it belongs to no cluster."
        name = f", named {found.name!r}" if found.name else ""
        how = "was clustered itself" if found.stored else "was placed in the finished clustering"
        cluster = f"cluster {found.cluster}{name} of {where}, strength {found.probability:.3f}"
        return f"{found.subject} lies in {cluster}; it {how}."

    def compare_two(
        self,
        x: Annotated[int, Field(description="Id of an example.")],
        y: Annotated[int, Field(description="Id of the other.")],
        site: Site = None,
        span: Span = None,
        network: NetworkName = None,
    ) -> str:
        """How far apart two examples are to the network: gates that differ, by site, and boundaries crossed per unit
        of distance where that is defined."""
        apart = self._ask("gates_apart", x=x, y=y, site=site, span=span, network=network)
        try:
            pair = self._ask("density", x=x, y=y, site=site, span=span, network=network)
            density = f"{pair.density:.4g} boundaries per unit of distance ({pair.distance:.4g} apart). {pair.note}"
        except PolytopeError as undefined:
            density = f"No density: {undefined}"
        summary = (
            f"Examples {x} and {y} differ in {len(apart.gates)} of {apart.sites['n_gates'].sum()} gates. {density}"
        )
        return told(summary, apart.sites)

    def boundaries(
        self,
        span: Annotated[str, Field(description="The sites whose gates count: inception4c->:full, blocks.0.mlp->.")],
        example: Example = None,
        text: Text = None,
        token: Token = None,
        k: Annotated[int, Field(description="How many boundaries.", ge=1, le=MOST_ROWS)] = 10,
    ) -> str:
        """How far the next polytope is and which gates bound this one: the nearest boundaries of an example's or a
        token's polytope. The network is run, which can take a minute."""
        found = self._ask("boundaries", span=span, example=example, text=text, token=token, k=k)
        exact = "exact" if found.exact else "a linearisation at that point"
        summary = (
            f"The polytope of {found.subject} in {found.span} of {found.network}: inradius {found.inradius:.4g}, "
            f"activation of norm {found.norm:.4g}, {found.n_gates} gates; {exact}."
        )
        return told(summary, found.table, notes=[found.remark])

    def class_density(
        self,
        network: NetworkName = None,
        spans: Annotated[list[str] | None, Field(description="Spans; all by default.")] = None,
        pairs: Annotated[int, Field(description="Pairs that are drawn.", ge=2, le=20_000)] = 1000,
    ) -> str:
        """Whether boundaries lie more densely between examples of different labels than of one: ratio above 1 and an
        interval that excludes it. A measurement with intervals over drawn pairs, the same each time."""
        rows = self._ask("class_density", network=network, spans=spans, pairs=pairs)
        return told("Polytope density by class; ratio: different labels over the same.", rows)

    def experiment(
        self,
        number: Annotated[int | None, Field(description="Id of a stored experiment; none lists them.")] = None,
        table: Annotated[str, Field(description="Which of its tables.")] = "table",
        limit: Rows = 40,
        offset: Annotated[int, Field(description="Leave out so many rows.", ge=0)] = 0,
    ) -> str:
        """The stored result of an experiment of the post: parameters, notes, numbers. Without a number, the list."""
        if number is None:
            return told("Stored experiments.", self._stored())
        result = self._served.look(lambda a: experiments.load(a, number))
        if table not in result.tables:
            raise UsageError(f"experiment {number} has no table {table!r}; it has {', '.join(result.tables)}")
        rows = result.tables[table]
        page = rows.iloc[offset : offset + limit]
        about = experiments.EXPERIMENTS[result.kind]
        parameters = ", ".join(f"{name} {str(value)[:80]}" for name, value in result.parameters.items())
        summary = f"{result.kind} of {result.network or 'several networks'}: {about}\nParameters: {parameters}\n"
        tables = f"Tables: {', '.join(f'{name} ({len(held)} rows)' for name, held in result.tables.items())}."
        return told(summary + tables, page, _next(offset, len(page), len(rows)), result.notes)

    def figure(
        self,
        layout: Annotated[int | None, Field(description="Id of a map: its points, coloured by label.")] = None,
        example: Annotated[int | None, Field(description="Id of an example: its codes, site below site.")] = None,
        experiment: Annotated[int | None, Field(description="Id of a stored experiment: its figure.")] = None,
    ) -> list[Any]:
        """A picture: of a map (layout), of the codes of an example, or the figure of a stored experiment. Give one of
        the three."""
        given = [
            name
            for name, value in (("layout", layout), ("example", example), ("experiment", experiment))
            if value is not None
        ]
        if len(given) != 1:
            raise UsageError(
                f"give one of layout, example and experiment, got {' and '.join(given) or 'none of them'}"
            )
        if layout is not None:
            legend, picture = self._served.look(lambda a: map_picture(a, layout))
        elif example is not None:
            legend, picture = self._served.look(lambda a: code_picture(a, example))
        else:
            number = int(experiment or 0)
            result = self._served.look(lambda a: experiments.load(a, number))
            notes = "; ".join(result.notes)
            legend, picture = f"experiment {number}, {result.kind}. {notes}".strip(), result_picture(result)
        return [legend, Image(data=picture, format="png")]

    def _stored(self) -> pd.DataFrame:
        rows: pd.DataFrame = self._served.look(experiments.stored)
        return rows[["experiment_id", "kind", "network", "options", "made_at", "current"]]


def _next(offset: int, shown: int, total: int) -> str:
    left = total - offset - shown
    return f"{counted(left, 'more row')}: offset={offset + shown}." if left > 0 else ""
