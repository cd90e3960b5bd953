-- The audit looks up what a subscription was quoted.

create index quotes_by_subscription on quotes (tenant_id, subscription_id, cycle_number);
