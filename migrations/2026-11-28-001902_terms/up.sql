-- Years that are paid at once (R-22b), cycles that are calendar months, Credits that are carried over (R-20), and plans
-- that move to the newest catalogue version at a renewal (R-5). An expansion: what is there is monthly, from its
-- anniversary, and whole.

alter table subscriptions
    add column term text not null default 'monthly' check (term in ('monthly', 'annual')),
    -- The cycle that the running year was paid with.
    add column annual_from integer check (annual_from between 0 and cycle_number),
    add column anchor_kind text not null default 'anniversary'
        check (anchor_kind in ('anniversary', 'calendar_month')),
    -- The part of a month that the current cycle covers and cost.
    add column share_days smallint not null default 1,
    add column share_of smallint not null default 1,
    -- It moves to the newest catalogue version at its next renewal.
    add column migrates boolean not null default false,
    add check (term = 'annual' or annual_from is null),
    add check (term = 'monthly' or anchor_kind = 'anniversary'),
    add check (1 <= share_days and share_days <= share_of and share_of <= 31),
    add check (share_days = share_of or cycle_number is null or cycle_number = 0);

-- What a cycle's turn granted: its pool, where its year had paid for it, and what it left for the next ones.
alter table cycles
    add column grant_id uuid,
    add column carried_grant_id uuid,
    add foreign key (tenant_id, grant_id) references grants deferrable initially deferred,
    add foreign key (tenant_id, carried_grant_id) references grants deferrable initially deferred,
    add check (grant_id is null or state <> 'skipped'),
    add check (carried_grant_id is null or state = 'closed');

alter table transfers
    drop constraint transfers_cause_kind_check,
    add constraint transfers_cause_kind_check check (cause_kind in ('purchase', 'usage', 'expiry', 'cancel', 'void',
        'refund', 'dispute', 'adjustment', 'cycle'));
