-- The roles of Tollgate and its database, for PostgreSQL 15 or newer. Run once, as a superuser:
--
--     psql -v ON_ERROR_STOP=1 -f roles.sql
--
-- tollgate_owner   owns the database and all that `tollgate migrate` makes. Used for that alone.
-- tollgate_app     what the application may do: the privileges that the migrations give it, and no
--                  more. Nobody logs in as it.
-- tollgate         `tollgate serve`, `worker` and the other commands log in as it. It owns nothing,
--                  and by itself it may do nothing: it takes on tollgate_app.
--
-- No password is set here: see README.md. Roles that exist are made as these are. Where the database
-- exists, its creation says so and the run stops: then all of this was done before.

do $$
declare
    name text;
begin
    foreach name in array array['tollgate_owner', 'tollgate_app', 'tollgate'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I', name);
        end if;
        execute format('alter role %I nosuperuser nocreatedb nocreaterole noreplication nobypassrls', name);
    end loop;
end
$$;

alter role tollgate_owner login;

alter role tollgate_app nologin;

-- A connection that has not taken on tollgate_app reads no table. PostgreSQL 16 and newer note that
-- with the membership, 15 with the role; in this order, both do.
alter role tollgate login noinherit;

grant tollgate_app to tollgate;

-- The migrations grant tollgate_app to the role that runs them, which takes the right to grant it.
grant tollgate_app to tollgate_owner with admin option;

create database tollgate owner tollgate_owner;

-- Others on this server stay out, and nobody but the owner makes temporary tables.
revoke all on database tollgate from public;

grant connect on database tollgate to tollgate;
