-- A usage event can be voided (R-33): its transfers are reversed, and a row here says when, why and with what effect.
-- The event and its receipt stay as they were.
--
-- The version before runs on with this: its rows are as they have to be. It only does not know what a void is: until
-- the last of its servers has stopped, leave voiding alone, or they cannot show that account's ledger.

alter table transfers
    drop constraint transfers_cause_kind_check,
    add constraint transfers_cause_kind_check
        check (cause_kind in ('purchase', 'usage', 'expiry', 'cancel', 'void'));

create table usage_voids (
    tenant_id uuid not null,
    -- The event's: it is voided once, whoever tries.
    identity uuid not null,
    -- Where the event lies.
    customer_id uuid not null,
    event_time timestamptz not null,
    voided_at timestamptz not null,
    -- The operator's words.
    reason text not null check (reason <> ''),
    -- What the event had cost, and the part of it that no grant had paid for.
    credits bigint not null check (credits >= 0),
    overage bigint not null check (overage between 0 and credits),
    -- What of it could be spent again; the rest went back to grants that had ended, and expired at once (R-25b).
    spendable bigint not null check (spendable between 0 and credits - overage),
    balance_after bigint not null check (balance_after >= 0),
    account_version bigint not null,
    primary key (tenant_id, identity),
    foreign key (tenant_id, customer_id) references credit_accounts
);
-- A cycle's statement asks for a customer's.
create index usage_voids_by_customer on usage_voids (tenant_id, customer_id, account_version);
call wall_in('usage_voids', 'select, insert');
