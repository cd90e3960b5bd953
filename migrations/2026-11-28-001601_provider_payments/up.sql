-- What a payment provider with a life of its own says of a payment: its own id of it, what the
-- customer has to do (3-D Secure), and what it took where that was not the amount.

alter table payments
    -- Unique below: one payment of the provider's is one of ours.
    add column provider_ref text check (char_length(provider_ref) between 1 and 255),
    -- Good for finishing this one payment, and gone once it is decided.
    add column action_client_secret text check (char_length(action_client_secret) between 1 and 1000),
    add column action_url text check (char_length(action_url) between 1 and 4000),
    -- A success over something else: it pays nothing until an operator has looked at it.
    add column mismatch_minor bigint,
    add column mismatch_currency text,
    add check ((mismatch_minor is null) = (mismatch_currency is null)),
    add check (mismatch_minor is null or status not in ('succeeded', 'refunded')),
    drop constraint payments_status_check,
    add constraint payments_status_check check (status in
        ('created', 'requires_action', 'pending', 'succeeded', 'failed', 'canceled', 'refunded')),
    add check (status = 'requires_action' or (action_client_secret is null and action_url is null));

create unique index payments_by_provider_ref on payments (tenant_id, provider_ref)
    where provider_ref is not null;

drop index payments_in_flight;
create unique index payments_in_flight on payments (tenant_id, invoice_id)
    where status in ('created', 'requires_action', 'pending');
