-- Invoices are numbered per tenant without holes and final once issued; tax is a line of theirs; a refund of a paid one is
-- a credit note, numbered likewise.
--
-- An expansion: what the version before issues is numbered by the database, and has no tax until it is replaced.

-- The last number of each series. Its row is locked by whoever issues until that commits or is rolled back: so no number
-- is taken twice, and none is left out.
create table invoice_counters (
    tenant_id uuid not null references tenants,
    series text not null check (series in ('invoice', 'credit_note')),
    last_number bigint not null check (last_number > 0),
    primary key (tenant_id, series)
);
call wall_in('invoice_counters', 'select, insert, update');

create function next_number(tenant uuid, of_series text) returns bigint
    language sql as $$
    insert into invoice_counters as c (tenant_id, series, last_number) values (tenant, of_series, 1)
    on conflict (tenant_id, series) do update set last_number = c.last_number + 1
    returning c.last_number
$$;

create function take_number() returns trigger
    language plpgsql as $$
begin
    new.number := next_number(new.tenant_id, tg_argv[0]);
    return new;
end
$$;

alter table invoices
    add column number bigint check (number > 0),
    -- The tax in the total, at the rate of the day it was issued: on top of the other lines, or contained in them.
    add column tax_minor bigint not null default 0,
    add column tax_rate_bps smallint not null default 0 check (tax_rate_bps between 0 and 10000),
    add column tax_is_included boolean not null default false,
    add constraint tax_within_the_total check (tax_minor between 0 and total_minor),
    add constraint tax_has_a_rate check (tax_minor = 0 or tax_rate_bps > 0);

do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    update invoices i set number = n.number
    from (select tenant_id, invoice_id,
            row_number() over (partition by tenant_id order by created_at, invoice_id) as number
        from invoices) n
    where i.tenant_id = n.tenant_id and i.invoice_id = n.invoice_id;
    insert into invoice_counters (tenant_id, series, last_number)
    select tenant_id, 'invoice', count(*) from invoices group by tenant_id;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

alter table invoices
    alter column number set not null,
    add unique (tenant_id, number);
create trigger take_number before insert on invoices for each row execute function take_number('invoice');

-- What was issued stays as it is: only whether it is paid changes.
revoke update on invoices from tollgate_app;
grant update (status, paid_at) on invoices to tollgate_app;
create trigger issued_rows before delete or update of tenant_id, invoice_id, customer_id, currency, total_minor,
        created_at, number, tax_minor, tax_rate_bps, tax_is_included on invoices
    for each row execute function refuse_change();
create trigger issued_rows before update or delete on invoice_lines
    for each row execute function refuse_change();

alter table invoice_lines
    drop constraint invoice_lines_kind_check,
    add constraint invoice_lines_kind_check
        check (kind in ('plan', 'upgrade', 'discount', 'tax', 'top_up', 'usage'));

-- What a refund of a paid invoice is written down as, once the money has gone back.
create table credit_notes (
    tenant_id uuid not null,
    credit_note_id uuid not null,
    number bigint not null check (number > 0),
    refund_id uuid not null,
    invoice_id uuid not null,
    currency text not null check (currency in ('USD', 'CNY')),
    total_minor bigint not null check (total_minor > 0),
    -- As its invoice's tax: on top of the other lines, or contained in them.
    tax_minor bigint not null check (tax_minor between 0 and total_minor),
    tax_is_included boolean not null,
    created_at timestamptz not null,
    primary key (tenant_id, credit_note_id),
    unique (tenant_id, number),
    unique (tenant_id, refund_id),
    foreign key (tenant_id, refund_id) references refunds,
    foreign key (tenant_id, invoice_id) references invoices
);
create index credit_notes_by_invoice on credit_notes (tenant_id, invoice_id, number);
create trigger take_number before insert on credit_notes for each row execute function take_number('credit_note');
create trigger issued_rows before update or delete on credit_notes
    for each row execute function refuse_change();
call wall_in('credit_notes', 'select, insert');

create table credit_note_lines (
    tenant_id uuid not null,
    credit_note_id uuid not null,
    position smallint not null check (position >= 0),
    kind text not null check (kind in ('refund', 'tax')),
    description text not null,
    amount_minor bigint not null check (amount_minor >= 0),
    primary key (tenant_id, credit_note_id, position),
    foreign key (tenant_id, credit_note_id) references credit_notes
);
create trigger issued_rows before update or delete on credit_note_lines
    for each row execute function refuse_change();
call wall_in('credit_note_lines', 'select, insert');
