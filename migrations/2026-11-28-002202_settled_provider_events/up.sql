-- The provider's events that are settled are deleted after a while; one that is parked stays until somebody has looked.

grant delete on provider_events to tollgate_app;
create index provider_events_settled on provider_events (settled_at) where state in ('applied', 'ignored', 'rejected');
