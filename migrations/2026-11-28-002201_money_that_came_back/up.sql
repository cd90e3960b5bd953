-- Money that did not go back in the end (R-22a): a refund that failed after it had succeeded, a dispute that was won
-- after it had been lost.
--
-- An expansion: the version before works on, and lifts no suspension when a dispute is won.

-- Refunds that the provider told of by its own id. One of before is known by its amount alone.
alter table refunds
    add column provider_ref text check (char_length(provider_ref) between 1 and 255),
    add constraint refunds_by_provider_ref unique (tenant_id, provider_ref);

-- Suspended because a dispute was lost, and by nobody else: it goes on once none is lost any more.
alter table subscriptions
    add column is_suspended_by_dispute boolean not null default false,
    add constraint suspended_by_dispute check (status = 'suspended' or not is_suspended_by_dispute);
