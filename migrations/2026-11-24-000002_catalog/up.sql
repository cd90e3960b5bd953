-- What a tenant sells. A published version is immutable (R-5): the application may only add one.

create table catalog_versions (
    tenant_id uuid not null references tenants,
    version integer not null check (version > 0),
    effective_at timestamptz not null,
    -- Plans, promotions, top-ups and the rate card together, checked before they are stored.
    document jsonb not null,
    published_at timestamptz not null,
    primary key (tenant_id, version),
    unique (tenant_id, effective_at)
);
call wall_in('catalog_versions', 'select, insert');
