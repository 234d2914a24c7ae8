-- What a segmented atlas has in place of tables codes and activations of schema.sql: views of the same columns over
-- Parquet files. Which files these are the version of the atlas says; whoever opens it sets two variables to their names.
drop table codes;
drop table activations;

create view codes as
select site_id, example_id, cast(code as bit) as code, n_active, hash(cast(code as bit)) as code_hash
from read_parquet(getvariable('code_files'), hive_partitioning = true, hive_types = {'site_id': 'usmallint'});
comment on view codes is 'Spline codes: a row a site and example.';
comment on column codes.site_id is 'sites.site_id.';
comment on column codes.example_id is 'examples.example_id.';
comment on column codes.code is 'One bit a gate, 1 where the preactivation is positive; gate 0 first, zero-padded to whole bytes.';
comment on column codes.n_active is 'Gates that are on.';
comment on column codes.code_hash is 'Hash of the code: equal for the same polytope, so that it can be joined and grouped.';

create view activations as
select site_id, example_id, part, activation
from read_parquet(getvariable('activation_files'), hive_partitioning = true, hive_types = {'site_id': 'usmallint'});
comment on view activations is 'Activation vectors of the sites that store them; of more than 4,096 units, in several rows.';
comment on column activations.site_id is 'sites.site_id.';
comment on column activations.example_id is 'examples.example_id.';
comment on column activations.part is 'Which 4,096 units these are, from 0; only 0 for sites of no more.';
comment on column activations.activation is 'One number a unit, after the nonlinearity; order as sites.unit_shape, flattened. Rounded to bfloat16 where the plan of the run says so (runs.plan, bfloat16).';
