-- Who voided an event. An expansion: the version before works on, and does not say.

alter table usage_voids
    -- The operator's API key; null where it was not kept yet.
    add column voided_by uuid,
    add foreign key (tenant_id, voided_by) references api_keys;
