-- The epoch with Redis before this one: Redis may have holds of it still that a server granted and died before it had
-- recorded. An expansion: the version before works on, and leaves it as it is, which is an epoch that is older.

alter table hot_state add column left_epoch bigint;
