{#
  What the flow `predict` writes and silver reads: versions of models, and their scores. Created before every build, so
  that models which read scores can be built before the first one was given. Where they are there, nothing is asked for:
  who reviews a pull request may not create them.
#}
{% macro prediction_tables() -%}
{%- set missing = [] -%}
{%- for name in ['model_versions', 'customer_scores'] -%}
    {%- if adapter.get_relation(database=target.database, schema='ml', identifier=name) is none -%}
        {%- do missing.append(name) -%}
    {%- endif -%}
{%- endfor -%}
{%- if missing %}
    create schema if not exists ml;
    comment on schema ml is 'Versions of models and the scores they gave, written by the flow `predict`.';

    create table if not exists ml.model_versions (
        model text not null,
        version integer not null check (version > 0),
        status text not null check (status in ('published', 'refused')),
        trained_at timestamptz not null default clock_timestamp(),
        fingerprint text not null,
        window_from date not null,
        window_to date not null,
        holdout_from date not null,
        rows_trained bigint not null,
        declaration jsonb not null,
        parameters jsonb not null,
        metrics jsonb not null,
        primary key (model, version)
    );
    comment on table ml.model_versions is
    'One row per version of a model: what it learned from, what it learned, and how good it was on the holdout.';

    create table if not exists ml.customer_scores (
        model text not null,
        version integer not null,
        as_of date not null,
        household_id bigint not null,
        score double precision not null check (score between 0 and 1),
        decile smallint not null check (decile between 1 and 10),
        primary key (model, version, household_id),
        foreign key (model, version) references ml.model_versions
    );
    comment on table ml.customer_scores is
    'One row per household and version of a model that scored it.';
{%- endif -%}
{%- endmacro %}
