//! Tollgate from outside: real processes, real HTTP, real PostgreSQL and Redis.

mod commands;
mod concurrency;
mod deploy;
mod isolation;
mod late_usage;
mod lifecycle;
mod openapi;
mod outages;
mod parking;
mod sim;
mod spending;
mod support;
mod tidy;
mod webhooks;
mod wrong_input;
