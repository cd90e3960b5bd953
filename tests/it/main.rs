//! Tollgate from outside: real processes, real HTTP, real PostgreSQL and Redis.

mod alerts;
mod audit;
mod commands;
mod concurrency;
mod deploy;
mod holds;
mod isolation;
mod late_usage;
mod lifecycle;
mod openapi;
mod outages;
mod parking;
mod rate_cards;
mod sdk;
mod sim;
mod spending;
mod statements;
mod support;
mod tidy;
mod torture;
mod usage_formats;
mod usage_reports;
mod usage_voids;
mod usage_wire;
mod webhooks;
mod wrong_input;
