-- Customers, ids and fingerprints are random: PostgreSQL tried to compress them and won hardly anything.
alter table hold_batches alter column holds set storage external;
