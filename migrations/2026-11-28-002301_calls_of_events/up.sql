-- An event of several calls of a model, each charged by its own band. An expansion: the version before works on, and keeps
-- such usage in quarantine.

alter table usage_events
    -- [[model or null, {kind: tokens}, Credits, overage, band's upper bound or null, [[kind, milli-Credits per token], ..]], ..]
    -- in the order of the calls, of which the event's tokens and Credits are the sums. Null of an event of one call.
    add column calls jsonb,
    add check (calls is null or (jsonb_typeof(calls) = 'array' and jsonb_array_length(calls) > 0
        and band_prompt_tokens_max is null and rates = '[]'));
