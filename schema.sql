-- The tables, views and macros of a polytope atlas. Every column carries a comment; in an atlas,
-- `select * from documentation` lists them all.
--
-- Ids are assigned in the order of publication and never reused. Large tables (examples, codes, activations,
-- cluster_labels) carry no database constraints, which would cost more memory than the data: `polytope verify`
-- checks what a constraint would.

create table meta (
    key varchar primary key,
    value varchar not null
);
comment on table meta is 'Facts about the atlas itself.';
comment on column meta.key is 'schema_version: layout of these tables.';
comment on column meta.value is 'The value, as text.';

create table digests (
    "table" varchar not null,
    owner varchar not null,
    "column" varchar not null,
    n_rows ubigint not null,
    digest varchar not null
);
comment on table digests is 'What was written: a row a column, for all rows of a table that belong together. Of codes and activations, whose digests stand in sites, those of pieces of 16,384 example ids. `polytope verify` compares.';
comment on column digests."table" is 'Name of the table.';
comment on column digests.owner is 'What the rows belong to, as {"run_id": 1}, {"site_id": 1, "piece": 0}; {} for a table that is digested whole.';
comment on column digests."column" is 'Name of the column; rows of a piece. Those of owner and times have no digest.';
comment on column digests.n_rows is 'Rows that were written.';
comment on column digests.digest is 'Of a column: SHA-256 over the SHA-256 of which rows hold a value, of the lengths of texts and lists, and of the values, in order of the rows.';

create table networks (
    network_id usmallint primary key,
    name varchar not null unique,
    architecture varchar not null,
    kind varchar not null,
    source varchar not null,
    weights varchar not null,
    weights_digest varchar not null,
    reading json not null
);
comment on table networks is 'A network together with how inputs are fed to it.';
comment on column networks.network_id is 'Identity, from 1.';
comment on column networks.name is 'Name to ask for it by.';
comment on column networks.architecture is 'Class of the model, for example GPT2LMHeadModel or GoogLeNet.';
comment on column networks.kind is 'text, image or vector.';
comment on column networks.source is 'What was given as --network; --codes where something else computed the codes, live where a module was handed over.';
comment on column networks.weights is 'What was given as --weights: hub, a path, random:SEED or random-raw:SEED; of codes from elsewhere their file.';
comment on column networks.weights_digest is 'SHA-256 over all parameters and buffers, hexadecimal; of codes from elsewhere over their files.';
comment on column networks.reading is 'All else that changes what it computes: BOS token, context length, image size, normalisation.';

create table sites (
    site_id usmallint primary key,
    network_id usmallint not null,
    name varchar not null,
    ordinal usmallint not null,
    scope varchar not null,
    n_units uinteger not null,
    n_gates uinteger not null,
    nonlinearity varchar not null,
    exact boolean not null,
    broken_by varchar not null default '',
    bypassed_by varchar not null default '',
    unit_shape uinteger[] not null,
    layout json not null,
    n_codes ubigint not null default 0,
    codes_digest varchar,
    n_activations ubigint not null default 0,
    activations_digest varchar,
    unique (network_id, name)
);
comment on table sites is 'Named places of a network where activations and codes were read.';
comment on column sites.site_id is 'Identity, from 1.';
comment on column sites.network_id is 'networks.network_id.';
comment on column sites.name is 'blocks.5.mlp, inception4c, inception4c:full.';
comment on column sites.ordinal is 'Order from input to output, from 0. A site and its :full twin share it.';
comment on column sites.scope is 'position: gates at one position. full: gates at all spatial positions.';
comment on column sites.n_units is 'Length of an activation vector.';
comment on column sites.n_gates is 'Bits of a code, padding not counted.';
comment on column sites.nonlinearity is 'Element-wise nonlinearity of the gates, for example relu or gelu_new.';
comment on column sites.exact is 'True where equal codes (and equal max-pooling switches) mean the same affine map.';
comment on column sites.broken_by is 'What makes it not exact: the first operation since the site before that is not piecewise affine; empty where it is exact, or nothing more is known.';
comment on column sites.bypassed_by is 'Which later operation reads more than the activation of this site, past which a skip connection flows; empty where the activation alone determines what comes after.';
comment on column sites.unit_shape is 'Shape of an activation before flattening: channels, or channels, rows, columns.';
comment on column sites.layout is 'Which module each run of gates belongs to: module, start, count, grid.';
comment on column sites.n_codes is 'Codes stored.';
comment on column sites.codes_digest is 'SHA-256 over those of its pieces, of 16,384 example ids each: over that of the ids (int64) and that of the packed codes, in order of id. An index must carry the same.';
comment on column sites.n_activations is 'Activation vectors stored.';
comment on column sites.activations_digest is 'The same of the activations (float32).';

create table spans (
    span_id usmallint primary key,
    network_id usmallint not null,
    name varchar not null,
    unique (network_id, name)
);
comment on table spans is 'Spans that were asked for by name, so that they get an index. Any other span can be queried too.';
comment on column spans.span_id is 'Identity, from 1.';
comment on column spans.network_id is 'networks.network_id.';
comment on column spans.name is 'AFTER->TO, the sites after AFTER up to TO; AFTER-> runs to the output.';

create table datasets (
    dataset_id usmallint primary key,
    name varchar not null unique,
    kind varchar not null,
    source varchar not null,
    fingerprint varchar not null,
    n_inputs ubigint not null
);
comment on table datasets is 'Collections of inputs.';
comment on column datasets.dataset_id is 'Identity, from 1.';
comment on column datasets.name is 'Name to ask for it by.';
comment on column datasets.kind is 'text, image or vector.';
comment on column datasets.source is 'What was given as --data.';
comment on column datasets.fingerprint is 'SHA-256 over keys, labels and content hashes in order.';
comment on column datasets.n_inputs is 'Inputs that were read, duplicates counted.';

create table inputs (
    input_id uinteger primary key,
    kind varchar not null,
    content_hash varchar not null unique,
    -- What DuckDB would choose takes eight times as long, and the last texts are written again by each run that adds some.
    text varchar using compression zstd,
    thumbnail blob,
    width uinteger,
    height uinteger,
    vector float[],
    run_id usmallint not null
);
comment on table inputs is 'Texts, images and vectors, each stored once however often it was ingested.';
comment on column inputs.input_id is 'Identity, from 1.';
comment on column inputs.kind is 'text, image or vector.';
comment on column inputs.content_hash is 'SHA-256 of the text in UTF-8, of the image file, or of the shape and numbers of a vector; with codes from elsewhere, of the key and that.';
comment on column inputs.text is 'The whole text; null for an image or a vector.';
comment on column inputs.thumbnail is 'PNG or JPEG, at most 128 pixels a side; of a vector where its shape is that of an image, from its least number, black, to its greatest, white; null for all else.';
comment on column inputs.width is 'Pixels of the original image.';
comment on column inputs.height is 'Pixels of the original image.';
comment on column inputs.vector is 'All numbers of a vector, flat, in single precision, as the network reads them; null for a text or an image.';
comment on column inputs.run_id is 'runs.run_id of the run that brought it first.';

create table dataset_inputs (
    dataset_id usmallint not null,
    ordinal uinteger not null,
    input_id uinteger not null,
    key varchar not null,
    label varchar,
    run_id usmallint not null
);
comment on table dataset_inputs is 'Which inputs a dataset holds, under which key and label.';
comment on column dataset_inputs.dataset_id is 'datasets.dataset_id.';
comment on column dataset_inputs.ordinal is 'Place in the dataset, from 0.';
comment on column dataset_inputs.input_id is 'inputs.input_id.';
comment on column dataset_inputs.key is 'Path in the folder, or file and line.';
comment on column dataset_inputs.label is 'Class or source, as the dataset had it first; null where it has none.';
comment on column dataset_inputs.run_id is 'runs.run_id of the run that brought it.';

create table runs (
    run_id usmallint primary key,
    name varchar not null,
    network_id usmallint not null,
    dataset_id usmallint not null,
    plan json not null,
    plan_digest varchar not null,
    n_examples ubigint not null,
    n_bad ubigint not null,
    started_at timestamp,
    published_at timestamp
);
comment on table runs is 'Ingestions that were published. This table and experiments alone hold clock times: all others are reproducible.';
comment on column runs.run_id is 'Identity, from 1.';
comment on column runs.name is 'Name of the run; its staging folder bore it.';
comment on column runs.network_id is 'networks.network_id.';
comment on column runs.dataset_id is 'datasets.dataset_id.';
comment on column runs.plan is 'Everything that determines the result: network, data, sites, sampling, seed, shards.';
comment on column runs.plan_digest is 'SHA-256 of the plan.';
comment on column runs.n_examples is 'Examples that the run read, those already known included.';
comment on column runs.n_bad is 'Inputs skipped, listed in bad_inputs.';
comment on column runs.started_at is 'When the plan was made, UTC.';
comment on column runs.published_at is 'When the run became visible, UTC.';

create table shards (
    run_id usmallint not null,
    shard uinteger not null,
    device varchar,
    n_examples uinteger not null,
    first_example_id uinteger,
    last_example_id uinteger
);
comment on table shards is 'What read each shard of a run: bits of gates near zero may differ between devices.';
comment on column shards.run_id is 'runs.run_id.';
comment on column shards.shard is 'Place in the plan of the run, from 0.';
comment on column shards.device is 'Where the network ran, of a GPU its name as well: cpu, cuda (NVIDIA H200); null where nothing ran (codes from elsewhere).';
comment on column shards.n_examples is 'Examples that the shard gave, those already known included.';
comment on column shards.first_example_id is 'examples.example_id of the first example that it brought; null where all were known.';
comment on column shards.last_example_id is 'The last one; those between are of the same shard.';

create table bad_inputs (
    run_id usmallint not null,
    key varchar not null,
    reason varchar not null
);
comment on table bad_inputs is 'Inputs that a run skipped because it was told to (--skip-bad).';
comment on column bad_inputs.run_id is 'runs.run_id.';
comment on column bad_inputs.key is 'Key of the input in its dataset.';
comment on column bad_inputs.reason is 'Why it could not be read.';

create table examples (
    example_id uinteger not null,
    network_id usmallint not null,
    run_id usmallint not null,
    input_id uinteger not null,
    position uinteger,
    "row" float,
    "column" float,
    token varchar,
    context varchar,
    context_offset uinteger,
    label varchar,
    prediction varchar not null,
    probability float not null,
    loss float
);
comment on table examples is 'One (input, position) seen by one network: a token of a text, or an image at a position.';
comment on column examples.example_id is 'Identity over the whole atlas, from 1.';
comment on column examples.network_id is 'networks.network_id.';
comment on column examples.run_id is 'runs.run_id of the run that brought it first.';
comment on column examples.input_id is 'inputs.input_id.';
comment on column examples.position is 'Index of the token in its text, from 0, BOS not counted; null for an image or a vector.';
comment on column examples."row" is 'Relative row of the position code, 0 (top) to below 1; null for a text.';
comment on column examples."column" is 'Relative column of the position code, 0 (left) to below 1; null for a text.';
comment on column examples.token is 'Characters of the token; null for an image or a vector. With codes from elsewhere, how the text begins.';
comment on column examples.context is 'Text around the token, the token included.';
comment on column examples.context_offset is 'Character of context at which the token starts, from 0.';
comment on column examples.label is 'The first label that the network''s input was given, by whichever dataset; dataset_inputs has all.';
comment on column examples.prediction is 'Most probable next token, or class.';
comment on column examples.probability is 'Probability of the prediction, 0 to 1.';
comment on column examples.loss is 'Negative log-likelihood of the true next token, or of the class that label names, nats; null where there is none.';

create table codes (
    site_id usmallint not null,
    example_id uinteger not null,
    code bit not null,
    n_active uinteger not null,
    code_hash ubigint generated always as (hash(code)) virtual
);
comment on table codes is 'Spline codes: a row a site and example.';
comment on column codes.site_id is 'sites.site_id.';
comment on column codes.example_id is 'examples.example_id.';
comment on column codes.code is 'One bit a gate, 1 where the preactivation is positive; gate 0 first, zero-padded to whole bytes.';
comment on column codes.n_active is 'Gates that are on.';
comment on column codes.code_hash is 'Hash of the code: equal for the same polytope, so that it can be joined and grouped.';

create table activations (
    site_id usmallint not null,
    example_id uinteger not null,
    part usmallint not null,
    activation float[] not null
);
comment on table activations is 'Activation vectors of the sites that store them; of more than 4,096 units, in several rows.';
comment on column activations.site_id is 'sites.site_id.';
comment on column activations.example_id is 'examples.example_id.';
comment on column activations.part is 'Which 4,096 units these are, from 0; only 0 for sites of no more.';
comment on column activations.activation is 'One number a unit, after the nonlinearity; order as sites.unit_shape, flattened. Rounded to bfloat16 where the plan of the run says so (runs.plan, bfloat16).';

create table clusterings (
    clustering_id usmallint primary key,
    network_id usmallint not null,
    target varchar not null,
    space varchar not null,
    metric varchar not null,
    min_cluster_size uinteger not null,
    min_samples uinteger not null,
    selection varchar not null,
    ties varchar not null,
    algorithm varchar not null,
    exact boolean not null,
    neighbors uinteger,
    proven double not null,
    sample ubigint,
    seed uinteger,
    n_placed ubigint not null,
    n_examples ubigint not null,
    n_clusters uinteger not null,
    n_noise ubigint not null,
    purity double,
    data_digest varchar not null
);
comment on table clusterings is 'HDBSCAN clusterings with all their parameters.';
comment on column clusterings.clustering_id is 'Identity, from 1.';
comment on column clusterings.network_id is 'networks.network_id.';
comment on column clusterings.target is 'Name of the site or span.';
comment on column clusterings.space is 'codes or activations.';
comment on column clusterings.metric is 'hamming (share of gates that differ), jaccard (the same of gates on in either) or euclidean (on 0/1 vectors or activations).';
comment on column clusterings.min_cluster_size is 'Least members of a cluster.';
comment on column clusterings.min_samples is 'Neighbours, without the point itself, that define its core distance.';
comment on column clusterings.selection is 'eom (excess of mass) or leaf.';
comment on column clusterings.ties is 'Order in which equally long edges merge: hdbscan (as that package on the same machine), stable, or ids (by those of both ends).';
comment on column clusterings.algorithm is 'How the hierarchy was computed.';
comment on column clusterings.exact is 'True where the hierarchy comes from all pairwise distances between all of the target''s examples.';
comment on column clusterings.neighbors is 'Neighbours of each example that an approximate hierarchy was made from; null where exact.';
comment on column clusterings.proven is 'Share of the spanning tree''s edges that surely belong to a minimum one, 0 to 1; 1 where exact.';
comment on column clusterings.sample is 'Examples that the hierarchy was made from, drawn at random; null where it was from all.';
comment on column clusterings.seed is 'Of what was drawn; null where nothing was.';
comment on column clusterings.n_placed is 'Examples that were not clustered but placed in the finished clustering; their labels are approximate.';
comment on column clusterings.n_examples is 'Examples with a label, those that were placed among them.';
comment on column clusterings.n_clusters is 'Clusters found.';
comment on column clusterings.n_noise is 'Examples in no cluster.';
comment on column clusterings.purity is 'Share of clustered, labelled examples that bear their cluster''s commonest label.';
comment on column clusterings.data_digest is 'Digest of the codes or activations that were clustered.';

create table cluster_labels (
    clustering_id usmallint not null,
    example_id uinteger not null,
    label integer not null,
    probability double not null,
    core_distance double not null,
    prediction_core_distance double not null,
    placed boolean not null
);
comment on table cluster_labels is 'Which cluster each example fell into.';
comment on column cluster_labels.clustering_id is 'clusterings.clustering_id.';
comment on column cluster_labels.example_id is 'examples.example_id.';
comment on column cluster_labels.label is 'Cluster, from 0; -1 is noise.';
comment on column cluster_labels.probability is 'Strength of membership, 0 to 1.';
comment on column cluster_labels.core_distance is 'Distance to the min_samples-th neighbour, in the clustering''s metric; of a placed example among those that were clustered.';
comment on column cluster_labels.prediction_core_distance is 'The same with the point itself counted, which HDBSCAN places new points with.';
comment on column cluster_labels.placed is 'True where it was not clustered but placed in the finished clustering, as HDBSCAN''s approximate prediction does.';

create table clusters (
    clustering_id usmallint not null,
    label integer not null,
    size uinteger not null,
    medoid uinteger not null,
    persistence double not null,
    purity double,
    top_label varchar,
    entropy double,
    node uinteger not null,
    n_placed uinteger not null
);
comment on table clusters is 'One row a cluster.';
comment on column clusters.clustering_id is 'clusterings.clustering_id.';
comment on column clusters.label is 'Cluster, from 0, as in cluster_labels.';
comment on column clusters.size is 'Members.';
comment on column clusters.medoid is 'examples.example_id of the member nearest to all members; of clusters above 10,000 members, to a sample of them.';
comment on column clusters.persistence is 'HDBSCAN''s persistence, 0 to 1.';
comment on column clusters.purity is 'Share of labelled members with the commonest label; null without labels.';
comment on column clusters.top_label is 'The commonest label; the alphabetically first of equals.';
comment on column clusters.entropy is 'Entropy of the members'' labels over log(number of labels in the clustering), 0 (pure) to 1.';
comment on column clusters.node is 'Node of this cluster in condensed_trees.';
comment on column clusters.n_placed is 'Members that were not clustered but placed in the finished clustering.';

create view cluster_names as
select
    networks.network_id, entry.target, entry.space, entry.example_id, entry.name, entry.note, entry.named_at
from (
    select unnest(from_json(
        coalesce(cast(getvariable('cluster_names') as varchar), '[]'),
        '[{"network": "varchar", "target": "varchar", "space": "varchar", "example_id": "uinteger", "name": "varchar", "note": "varchar", "named_at": "timestamp"}]'
    )) as entry
)
join networks on networks.name = entry.network;
comment on view cluster_names is 'Names and notes that people gave to clusters, as names.jsonl beside the database holds them. A name belongs to the example that was the cluster''s medoid, so that it outlives the clustering; the view named_clusters says which cluster bears which.';
comment on column cluster_names.network_id is 'networks.network_id.';
comment on column cluster_names.target is 'Name of the site or span.';
comment on column cluster_names.space is 'codes or activations.';
comment on column cluster_names.example_id is 'examples.example_id of the medoid when it was named.';
comment on column cluster_names.name is 'A name given by a person; null where there is only a note.';
comment on column cluster_names.note is 'What a person wrote about it; null where there is only a name.';
comment on column cluster_names.named_at is 'When it was last written, UTC.';

create view tags as
select unnest(entry.examples) as example_id, entry.tag, entry.tagged_at
from (
    select unnest(from_json(
        coalesce(cast(getvariable('tags') as varchar), '[]'),
        '[{"tag": "varchar", "tagged_at": "timestamp", "examples": ["uinteger"]}]'
    )) as entry
);
comment on view tags is 'Tags that people put on examples, as names.jsonl beside the database holds them: a row a tag and example.';
comment on column tags.example_id is 'examples.example_id.';
comment on column tags.tag is 'A word or short line given by a person.';
comment on column tags.tagged_at is 'When it was put on the example last, UTC.';

create table condensed_trees (
    clustering_id usmallint not null,
    parent uinteger not null,
    child uinteger not null,
    lambda_value double not null,
    child_size uinteger not null
);
comment on table condensed_trees is 'HDBSCAN''s condensed tree, needed to place new points in a clustering.';
comment on column condensed_trees.clustering_id is 'clusterings.clustering_id.';
comment on column condensed_trees.parent is 'Node that splits.';
comment on column condensed_trees.child is 'Below n_examples - n_placed: rank of an example among those that were clustered, in order of id. Else: a node.';
comment on column condensed_trees.lambda_value is '1 / distance at which the child leaves the parent.';
comment on column condensed_trees.child_size is 'Examples in the child.';

create table directions (
    experiment_id uinteger not null,
    network_id usmallint not null,
    site_id usmallint not null,
    method varchar not null,
    component uinteger not null,
    vector float[] not null,
    explained double
);
comment on table directions is 'Directions in activation space (NMF, PCA).';
comment on column directions.experiment_id is 'experiments.experiment_id of the experiment that found it.';
comment on column directions.network_id is 'networks.network_id.';
comment on column directions.site_id is 'sites.site_id.';
comment on column directions.method is 'nmf or pca.';
comment on column directions.component is 'Number of the component, from 0.';
comment on column directions.vector is 'One number a unit, of Euclidean length 1.';
comment on column directions.explained is 'Share of variance explained; null where the method has none.';

create table experiments (
    experiment_id uinteger primary key,
    kind varchar not null,
    version uinteger not null,
    network_id usmallint,
    options json not null,
    parameters json not null,
    notes varchar[] not null,
    data_digest varchar not null,
    made_at timestamp not null,
    made_by varchar not null
);
comment on table experiments is 'Results of experiments, with the parameters that reproduce them. Their tables are in experiment_rows.';
comment on column experiments.experiment_id is 'Identity, from 1.';
comment on column experiments.kind is 'Name of the experiment.';
comment on column experiments.version is 'Version of the experiment; another one may give other numbers.';
comment on column experiments.network_id is 'networks.network_id; null where several take part on equal terms.';
comment on column experiments.options is 'The options that it was asked with, defaults filled in.';
comment on column experiments.parameters is 'All parameters that reproduce the numbers, the seed included.';
comment on column experiments.notes is 'What is approximate, what was dropped and how often.';
comment on column experiments.data_digest is 'SHA-256 over the weights, codes and activations that the result rests on.';
comment on column experiments.made_at is 'When it was stored, UTC.';
comment on column experiments.made_by is 'Version of this project that measured it.';

create table experiment_columns (
    experiment_id uinteger not null,
    table_name varchar not null,
    ordinal uinteger not null,
    name varchar not null,
    dtype varchar not null,
    unit varchar not null,
    meaning varchar not null
);
comment on table experiment_columns is 'What the columns of the tables of stored results hold.';
comment on column experiment_columns.experiment_id is 'experiments.experiment_id.';
comment on column experiment_columns.table_name is 'Name of the table of the result; table is the main one.';
comment on column experiment_columns.ordinal is 'Place among all columns of the result, from 0.';
comment on column experiment_columns.name is 'Name of the column.';
comment on column experiment_columns.dtype is 'Type, as pandas calls it.';
comment on column experiment_columns.unit is 'Unit; empty for names, counts and shares.';
comment on column experiment_columns.meaning is 'What it holds (empty where nothing is declared).';

create table experiment_rows (
    experiment_id uinteger not null,
    table_name varchar not null,
    row_number uinteger not null,
    cells json not null
);
comment on table experiment_rows is 'Rows of the tables of stored results.';
comment on column experiment_rows.experiment_id is 'experiments.experiment_id.';
comment on column experiment_rows.table_name is 'Name of the table of the result; table is the main one.';
comment on column experiment_rows.row_number is 'Place in its table, from 0.';
comment on column experiment_rows.cells is 'A value a column; NaN and infinities are the strings nan, inf and -inf, which a cast to double reads: select cells->>''span'' as span, (cells->>''ratio'')::double as ratio from experiment_rows join experiments using (experiment_id) where kind = ''density'' and table_name = ''table'' order by experiment_id, row_number.';

create table indexes (
    network_id usmallint not null,
    target varchar not null,
    kind varchar not null,
    file varchar not null,
    n_codes ubigint not null,
    digest varchar not null,
    recall double,
    recall_in_order double,
    recall_sample uinteger,
    parameters json,
    unique (network_id, target, kind)
);
comment on table indexes is 'Hamming indexes beside the database; they can be rebuilt from codes at any time.';
comment on column indexes.network_id is 'networks.network_id.';
comment on column indexes.target is 'Name of the site or span.';
comment on column indexes.kind is 'flat: exact. Beside it at most one that is approximate: ivf.';
comment on column indexes.file is 'File name in the folder indexes/.';
comment on column indexes.n_codes is 'Codes in the index.';
comment on column indexes.digest is 'Digest of the codes it was built from; must equal that of the site.';
comment on column indexes.recall is 'Share of 10 found that are no farther than the tenth nearest, when it was built, so that ties are hits, 0 to 1; null where exact.';
comment on column indexes.recall_in_order is 'Share of the very 10 nearest, by distance and id, that were found; null where exact.';
comment on column indexes.recall_sample is 'Stored codes that the recall was measured on; null where exact.';
comment on column indexes.parameters is 'What it was built with and is searched with; null where exact.';

create table neighborhoods (
    network_id usmallint not null,
    target varchar not null,
    k uinteger not null,
    n_codes ubigint not null,
    digest varchar not null,
    unique (network_id, target)
);
comment on table neighborhoods is 'Sites and spans whose nearest neighbours, of every example, are in the table neighbors.';
comment on column neighborhoods.network_id is 'networks.network_id.';
comment on column neighborhoods.target is 'Name of the site or span.';
comment on column neighborhoods.k is 'Neighbours of each example.';
comment on column neighborhoods.n_codes is 'Examples that had a code.';
comment on column neighborhoods.digest is 'Digest of the codes they were found among; differs from that of the site once there are more.';

create table neighbors (
    network_id usmallint not null,
    target varchar not null,
    example_id uinteger not null,
    rank uinteger not null,
    neighbor_id uinteger not null,
    distance uinteger not null
);
comment on table neighbors is 'The nearest other examples of every example, by the Hamming distance of their codes.';
comment on column neighbors.network_id is 'networks.network_id.';
comment on column neighbors.target is 'Name of the site or span.';
comment on column neighbors.example_id is 'examples.example_id.';
comment on column neighbors.rank is 'From 1, by (distance, neighbor_id).';
comment on column neighbors.neighbor_id is 'examples.example_id of the neighbour.';
comment on column neighbors.distance is 'Gates in which the two codes differ.';

create table bounded_spans (
    network_id usmallint not null,
    span varchar not null,
    k uinteger not null,
    sketch uinteger not null,
    seed uinteger not null,
    unique (network_id, span)
);
comment on table bounded_spans is 'Spans whose nearest boundaries, of many examples, are in the table boundaries.';
comment on column bounded_spans.network_id is 'networks.network_id.';
comment on column bounded_spans.span is 'Name of the span, :full where activations are whole tensors.';
comment on column bounded_spans.k is 'Boundaries of each example, or all that there are.';
comment on column bounded_spans.sketch is 'Gaussian directions that the nearest were looked for with; 0: one a unit, which misses none. Distances are exact either way.';
comment on column bounded_spans.seed is 'Of these directions.';

create table boundaries (
    network_id usmallint not null,
    span varchar not null,
    example_id uinteger not null,
    rank uinteger not null,
    distance double not null,
    facet boolean,
    kind varchar not null,
    site_id usmallint,
    site varchar not null,
    module varchar not null,
    gate uinteger,
    channel uinteger,
    "row" uinteger,
    "column" uinteger,
    other_row uinteger,
    other_column uinteger
);
comment on table boundaries is 'The nearest boundaries of the polytopes that examples lie in, of those that they do not lie on. Of the examples of an image the first stands for all.';
comment on column boundaries.network_id is 'networks.network_id.';
comment on column boundaries.span is 'Name of the span, as bounded_spans has it.';
comment on column boundaries.example_id is 'examples.example_id.';
comment on column boundaries.rank is 'From 1, by distance.';
comment on column boundaries.distance is 'Euclidean distance in the activation space of the site that the span starts from; of a smooth network, to the linearised boundary.';
comment on column boundaries.facet is 'True where it is proven to bound the polytope, as the shortest way to it meets nothing before; null for a smooth network.';
comment on column boundaries.kind is 'gate, or pooling: two inputs of a max-pooling window that are equal.';
comment on column boundaries.site_id is 'sites.site_id; null where the atlas does not hold that site.';
comment on column boundaries.site is 'Name of the site whose gate it is; of pooling, of the one whose gates come next.';
comment on column boundaries.module is 'Module that holds the gate; max-pooling.';
comment on column boundaries.gate is 'Bit of the code of the site, from 0; null for pooling.';
comment on column boundaries.channel is 'Channel of the gate, or of the inputs of the window.';
comment on column boundaries."row" is 'Row of the gate, or of the input that the window takes; null where there is no grid.';
comment on column boundaries."column" is 'The same of the column.';
comment on column boundaries.other_row is 'Row of the other input; null for a gate.';
comment on column boundaries.other_column is 'The same of the column.';

create table layouts (
    layout_id usmallint primary key,
    network_id usmallint not null,
    target varchar not null,
    space varchar not null,
    metric varchar not null,
    algorithm varchar not null,
    neighbors uinteger not null,
    min_dist double not null,
    epochs uinteger not null,
    seed uinteger not null,
    proven double not null,
    n_examples ubigint not null,
    data_digest varchar not null
);
comment on table layouts is 'Maps: examples laid out in the plane, with all parameters. Which points are near each other is meant; how far apart others lie is not.';
comment on column layouts.layout_id is 'Identity, from 1.';
comment on column layouts.network_id is 'networks.network_id.';
comment on column layouts.target is 'Name of the site or span.';
comment on column layouts.space is 'codes or activations.';
comment on column layouts.metric is 'hamming (gates that differ), jaccard (share that differ of the gates on in either) or euclidean.';
comment on column layouts.algorithm is 'How examples were laid out: umap.';
comment on column layouts.neighbors is 'Others of each example that it was to stay near.';
comment on column layouts.min_dist is 'How close examples may lie.';
comment on column layouts.epochs is 'How often every example was moved.';
comment on column layouts.seed is 'Of everything drawn at random.';
comment on column layouts.proven is 'Share of the examples whose neighbours are surely the nearest, 0 to 1; 1 where all distances were computed.';
comment on column layouts.n_examples is 'Examples laid out.';
comment on column layouts.data_digest is 'Digest of the codes or activations that were laid out.';

create table layout_points (
    layout_id usmallint not null,
    example_id uinteger not null,
    x float not null,
    y float not null,
    neighbors uinteger[] not null,
    distances float[] not null
);
comment on table layout_points is 'Where each example lies on a map.';
comment on column layout_points.layout_id is 'layouts.layout_id.';
comment on column layout_points.example_id is 'examples.example_id.';
comment on column layout_points.x is 'Place from left to right; has no unit.';
comment on column layout_points.y is 'Place from bottom to top; has no unit.';
comment on column layout_points.neighbors is 'examples.example_id of its nearest others, which it was laid out by, nearest first.';
comment on column layout_points.distances is 'Distances to them, as layouts.metric says.';

-- Two codes of one site or span: the number of gates in which they differ.
create macro hamming(code_a, code_b) as bit_count(xor(code_a, code_b));

-- Is a gate on? Gates count from 0; null where the code has no such gate, so that sites of several widths can be
-- asked at once. A gate may be of any type of whole numbers.
create macro is_on(code, gate) as
    case when gate between 0 and bit_length(code) - 1 then get_bit(code, cast(gate as integer)) = 1 end;

-- Boundaries crossed per unit of distance between two examples; null where the activations are equal.
create macro polytope_density(code_a, code_b, activation_a, activation_b) as
    hamming(code_a, code_b)
    / nullif(list_distance(cast(activation_a as double[]), cast(activation_b as double[])), 0);

-- Does a point lie inside a polygon? An odd number of its edges lies to the right of the point then. A polygon is a list
-- of [x, y] in order, its first not repeated at the end.
create macro inside(point_x, point_y, polygon) as (
    select count(*) % 2 = 1
    from (
        select unnest(list_transform(range(1, len(polygon) + 1), lambda i: {
            'x1': polygon[i][1], 'y1': polygon[i][2],
            'x2': polygon[i % len(polygon) + 1][1], 'y2': polygon[i % len(polygon) + 1][2]
        }), recursive := true)
    )
    where (y1 > point_y) <> (y2 > point_y) and point_x < (x2 - x1) * (point_y - y1) / (y2 - y1) + x1
);

create view whole_activations as
select site_id, example_id, flatten(list(activation order by part)) as activation
from activations
group by site_id, example_id;
comment on view whole_activations is 'Activation vectors put together; ask for few examples at a time.';
comment on column whole_activations.site_id is 'sites.site_id.';
comment on column whole_activations.example_id is 'examples.example_id.';
comment on column whole_activations.activation is 'One number a unit, sites.n_units of them.';

create view spline_codes as
select
    networks.name as network, sites.name as site, examples.example_id, examples.input_id, examples.position,
    examples.token, examples.label, examples.prediction, codes.n_active, codes.code, codes.code_hash
from codes
join sites using (site_id)
join networks using (network_id)
join examples using (example_id);
comment on view spline_codes is 'Every code with the example that it belongs to.';
comment on column spline_codes.network is 'Name of the network.';
comment on column spline_codes.site is 'Name of the site.';
comment on column spline_codes.example_id is 'examples.example_id.';
comment on column spline_codes.input_id is 'inputs.input_id.';
comment on column spline_codes.position is 'Index of the token in its text; null for an image or a vector.';
comment on column spline_codes.token is 'Characters of the token; null for an image or a vector.';
comment on column spline_codes.label is 'Label of the input.';
comment on column spline_codes.prediction is 'Most probable next token, or class.';
comment on column spline_codes.n_active is 'Gates that are on.';
comment on column spline_codes.code is 'The code, one bit a gate.';
comment on column spline_codes.code_hash is 'Equal for the same polytope.';

create view polytopes as
select
    networks.name as network, sites.name as site, codes.code_hash, codes.code,
    count(*) as occupancy, min(codes.example_id) as first_example, any_value(codes.n_active) as n_active
from codes
join sites using (site_id)
join networks using (network_id)
group by networks.name, sites.name, codes.code_hash, codes.code;
comment on view polytopes is 'Distinct codes of every site and the number of examples in each.';
comment on column polytopes.network is 'Name of the network.';
comment on column polytopes.site is 'Name of the site.';
comment on column polytopes.code_hash is 'Hash of the code.';
comment on column polytopes.code is 'The code, one bit a gate.';
comment on column polytopes.occupancy is 'Examples in the polytope.';
comment on column polytopes.first_example is 'The least example id in it.';
comment on column polytopes.n_active is 'Gates that are on.';

create view cluster_members as
select
    cluster_labels.clustering_id, networks.name as network, clusterings.target, clusterings.space,
    cluster_labels.label as cluster, cluster_labels.probability, examples.example_id, examples.input_id,
    examples.position, examples.token, examples.context, examples.context_offset, examples.label,
    examples.prediction
from cluster_labels
join clusterings using (clustering_id)
join networks on networks.network_id = clusterings.network_id
join examples using (example_id);
comment on view cluster_members is 'Every clustered example with its cluster; cluster -1 is noise.';
comment on column cluster_members.clustering_id is 'clusterings.clustering_id.';
comment on column cluster_members.network is 'Name of the network.';
comment on column cluster_members.target is 'Name of the site or span.';
comment on column cluster_members.space is 'codes or activations.';
comment on column cluster_members.cluster is 'Cluster, from 0; -1 is noise.';
comment on column cluster_members.probability is 'Strength of membership, 0 to 1.';
comment on column cluster_members.example_id is 'examples.example_id.';
comment on column cluster_members.input_id is 'inputs.input_id.';
comment on column cluster_members.position is 'Index of the token in its text; null for an image or a vector.';
comment on column cluster_members.token is 'Characters of the token; null for an image or a vector.';
comment on column cluster_members.context is 'Text around the token.';
comment on column cluster_members.context_offset is 'Character of context at which the token starts.';
comment on column cluster_members.label is 'Label of the input.';
comment on column cluster_members.prediction is 'Most probable next token, or class.';

-- A cluster bears the name of its own medoid; else of the named example among its members that belongs to it most
-- strongly; of equals the one written last, then the one with the least id.
create view named_clusters as
with borne as (
    select
        clusters.clustering_id, clusters.label, cluster_names.name, cluster_names.note,
        cluster_names.example_id as named_example, cluster_names.named_at
    from cluster_names
    join clusterings using (network_id, target, space)
    join cluster_labels
        on cluster_labels.clustering_id = clusterings.clustering_id
        and cluster_labels.example_id = cluster_names.example_id
    join clusters
        on clusters.clustering_id = cluster_labels.clustering_id
        and clusters.label = cluster_labels.label
    qualify row_number() over (
        partition by clusters.clustering_id, clusters.label
        order by (cluster_names.example_id = medoid) desc, probability desc, named_at desc, cluster_names.example_id
    ) = 1
)
select
    clustering_id, label, name, note, named_example, named_at, size, medoid, persistence, purity, top_label, entropy,
    n_placed
from clusters left join borne using (clustering_id, label);
comment on view named_clusters is 'Every cluster with the name and note that it bears: those of its own medoid, else of its strongest member that has some.';
comment on column named_clusters.clustering_id is 'clusterings.clustering_id.';
comment on column named_clusters.label is 'Cluster, from 0, as in cluster_labels.';
comment on column named_clusters.name is 'A name given by a person; null where there is none.';
comment on column named_clusters.note is 'What a person wrote about it; null where there is nothing.';
comment on column named_clusters.named_example is 'cluster_names.example_id of the name; null where there is none.';
comment on column named_clusters.named_at is 'When it was last written, UTC.';
comment on column named_clusters.size is 'Members.';
comment on column named_clusters.medoid is 'clusters.medoid.';
comment on column named_clusters.persistence is 'HDBSCAN''s persistence, 0 to 1.';
comment on column named_clusters.purity is 'Share of labelled members with the commonest label; null without labels.';
comment on column named_clusters.top_label is 'The commonest label; the alphabetically first of equals.';
comment on column named_clusters.n_placed is 'Members that were placed in the finished clustering.';
comment on column named_clusters.entropy is 'Entropy of the members'' labels over log(number of labels in the clustering), 0 (pure) to 1.';

create view documentation as
select
    table_name as "table", column_name as "column", data_type as type, comment
from duckdb_columns()
where not internal and schema_name = 'main' and comment is not null
order by table_oid, column_index;
comment on view documentation is 'What every column means.';
