-- What is sold, and for how much, is changed by keys that may do that and need nothing else.
alter table api_keys drop constraint api_keys_scopes_check,
    add constraint api_keys_scopes_check check (scopes <@ array['read', 'usage', 'backfill', 'billing', 'catalog', 'admin']);

-- When did the paid cycle begin that an event lies in? Asked where a tenant lets dearer rates wait for the next
-- cycle. A grant a cycle.
create index grants_of_plans on grants (tenant_id, customer_id, effective_at) include (expires_at)
    where source = 'plan';
