-- What Redis is told of an account is more than its balance: whether it may spend, when it refills, how it goes on without
-- Credits. Each such change without a transfer counts here, so that version and changes together say which of two copies
-- is newer, and one that comes late does not undo a suspension (R-9, R-29).

alter table credit_accounts add column changes bigint not null default 0 check (changes >= 0);
