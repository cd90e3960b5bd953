-- A charge changes what is left of a grant, and nothing that an index has: so PostgreSQL writes the new row beside the old
-- one and leaves the indexes alone. Before, what is left was a part of their conditions, each charge had an entry in five
-- indexes, and looking a busy customer's grants up went through all that no vacuum had taken yet.
--
-- An expansion: the version before works on, and looks for open grants without an index until it is replaced.

alter table grants
    add column is_used_up boolean not null generated always as (amount - spent - expired - revoked = 0) stored,
    set (fillfactor = 80);
drop index grants_with_credits, grants_by_expiry, grants_used_up;
create index grants_with_credits on grants (tenant_id, customer_id) where not is_used_up;
create index grants_by_expiry on grants (expires_at) where not is_used_up;
create index grants_used_up on grants (tenant_id, customer_id, expires_at) where is_used_up;
