-- What is sold, and for how much, is changed by keys that may do that and need nothing else.
alter table api_keys drop constraint api_keys_scopes_check,
    add constraint api_keys_scopes_check check (scopes <@ array['read', 'usage', 'backfill', 'billing', 'catalog', 'admin']);
