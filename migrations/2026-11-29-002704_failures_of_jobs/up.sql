-- Which of a job's attempts failed: the others were cut off, as their worker died, and say nothing against it.

alter table jobs add column failures integer not null default 0 check (failures between 0 and attempts);
