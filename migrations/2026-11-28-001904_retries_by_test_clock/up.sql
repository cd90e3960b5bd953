-- A failed webhook of a test tenant is tried again too once its test clock has passed the pause (R-38). An expansion: the
-- version before goes by real time alone.
alter table webhook_deliveries add column due_by_clock timestamptz;
