//! The tables as diesel sees them. Written by hand from `migrations/`; a test in this crate compares
//! the two, column by column.

diesel::table! {
    adjustments (tenant_id, adjustment_id) {
        tenant_id -> Uuid,
        adjustment_id -> Uuid,
        customer_id -> Uuid,
        kind -> Text,
        grant_id -> Uuid,
        credits -> BigInt,
        reason -> Text,
        made_by -> Uuid,
        made_at -> Timestamptz,
        campaign_tag -> Nullable<Text>,
    }
}

diesel::table! {
    api_keys (tenant_id, api_key_id) {
        tenant_id -> Uuid,
        api_key_id -> Uuid,
        prefix -> Text,
        secret_sha256 -> Bytea,
        name -> Text,
        scopes -> Array<Text>,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    campaign_tags (tenant_id, tag) {
        tenant_id -> Uuid,
        tag -> Text,
        credits -> BigInt,
        expires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    campaigns (tenant_id, campaign_id) {
        tenant_id -> Uuid,
        campaign_id -> Uuid,
        tag -> Text,
        reason -> Text,
        made_by -> Uuid,
        customers -> Nullable<Array<Uuid>>,
        plan_code -> Nullable<Text>,
        status -> Nullable<Text>,
        used_from -> Nullable<Timestamptz>,
        used_to -> Nullable<Timestamptz>,
        state -> Text,
        done_to -> Uuid,
        granted -> BigInt,
        skipped -> BigInt,
        requested_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    catalog_versions (tenant_id, version) {
        tenant_id -> Uuid,
        version -> Integer,
        effective_at -> Timestamptz,
        document -> Jsonb,
        published_at -> Timestamptz,
    }
}

diesel::table! {
    credit_accounts (tenant_id, customer_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        version -> BigInt,
        last_recorded_at -> Timestamptz,
        refills_at -> Nullable<Timestamptz>,
        issued -> BigInt,
        available -> BigInt,
        spent -> BigInt,
        expired -> BigInt,
        revoked -> BigInt,
        overage -> BigInt,
        chain -> Bytea,
        parked_at -> Nullable<Timestamptz>,
        parked_reason -> Nullable<Text>,
        exhaustion -> Nullable<Text>,
        payg_currency -> Text,
        spend_cap_minor -> Nullable<BigInt>,
        payg_accrued_pico -> Numeric,
        payg_due_at -> Nullable<Timestamptz>,
        top_up_at -> Nullable<BigInt>,
        top_up_blocked_until -> Nullable<Timestamptz>,
        suspended_at -> Nullable<Timestamptz>,
        changes -> BigInt,
    }
}

diesel::table! {
    credit_note_lines (tenant_id, credit_note_id, position) {
        tenant_id -> Uuid,
        credit_note_id -> Uuid,
        position -> SmallInt,
        kind -> Text,
        description -> Text,
        amount_minor -> BigInt,
    }
}

diesel::table! {
    credit_notes (tenant_id, credit_note_id) {
        tenant_id -> Uuid,
        credit_note_id -> Uuid,
        number -> BigInt,
        refund_id -> Uuid,
        invoice_id -> Uuid,
        currency -> Text,
        total_minor -> BigInt,
        tax_minor -> BigInt,
        tax_is_included -> Bool,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    customers (tenant_id, customer_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        external_id -> Text,
        name -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    cycle_grants (tenant_id, subscription_id, cycle_number, purchase_id) {
        tenant_id -> Uuid,
        subscription_id -> Uuid,
        cycle_number -> Integer,
        purchase_id -> Uuid,
        grant_id -> Uuid,
    }
}

diesel::table! {
    cycles (tenant_id, subscription_id, number) {
        tenant_id -> Uuid,
        subscription_id -> Uuid,
        number -> Integer,
        state -> Text,
        starts_at -> Timestamptz,
        ends_at -> Timestamptz,
        plan_code -> Text,
        opened_at -> Timestamptz,
        closed_at -> Nullable<Timestamptz>,
        carried_grant_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    disputes (tenant_id, dispute_id) {
        tenant_id -> Uuid,
        dispute_id -> Uuid,
        provider_ref -> Text,
        payment_id -> Uuid,
        invoice_id -> Uuid,
        amount_minor -> BigInt,
        currency -> Text,
        state -> Text,
        credits_revoked -> BigInt,
        opened_at -> Timestamptz,
        closed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    dunnings (tenant_id, purchase_id) {
        tenant_id -> Uuid,
        purchase_id -> Uuid,
        subscription_id -> Uuid,
        stage -> Text,
        failed_tries -> Integer,
        next_try_at -> Nullable<Timestamptz>,
        started_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    exhaustion_settings (tenant_id, customer_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        payment_method -> Nullable<Text>,
        top_up_code -> Nullable<Text>,
        top_up_currency -> Nullable<Text>,
        per_cycle_max -> Nullable<Integer>,
        cool_off_minutes -> Nullable<Integer>,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    grants (tenant_id, grant_id) {
        tenant_id -> Uuid,
        grant_id -> Uuid,
        customer_id -> Uuid,
        source -> Text,
        priority -> SmallInt,
        amount -> BigInt,
        spent -> BigInt,
        expired -> BigInt,
        revoked -> BigInt,
        remaining -> BigInt,
        effective_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        purchase_id -> Uuid,
        created_at -> Timestamptz,
        expiry_version -> Nullable<BigInt>,
        is_used_up -> Bool,
    }
}

diesel::table! {
    hold_batches (tenant_id, batch_id) {
        tenant_id -> Uuid,
        batch_id -> Uuid,
        epoch -> BigInt,
        holds -> Bytea,
        expires_max -> Timestamptz,
    }
}

diesel::table! {
    holds (tenant_id, customer_id, hold_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        hold_id -> Text,
        credits -> BigInt,
        fingerprint -> Text,
        granted_at -> Timestamptz,
        expires_at -> Timestamptz,
        counts_until -> Timestamptz,
        ended_as -> Nullable<Text>,
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    hot_state (is_only) {
        is_only -> Bool,
        epoch -> BigInt,
        is_up -> Bool,
        run_id -> Nullable<Text>,
        changed_at -> Timestamptz,
        left_epoch -> Nullable<BigInt>,
    }
}

diesel::table! {
    idempotency_keys (tenant_id, key) {
        tenant_id -> Uuid,
        key -> Text,
        fingerprint -> Bytea,
        fact_id -> Uuid,
        answer_status -> Nullable<SmallInt>,
        answer_body -> Nullable<Jsonb>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    invoice_counters (tenant_id, series) {
        tenant_id -> Uuid,
        series -> Text,
        last_number -> BigInt,
    }
}

diesel::table! {
    invoice_lines (tenant_id, invoice_id, position) {
        tenant_id -> Uuid,
        invoice_id -> Uuid,
        position -> SmallInt,
        kind -> Text,
        description -> Text,
        amount_minor -> BigInt,
    }
}

diesel::table! {
    invoices (tenant_id, invoice_id) {
        tenant_id -> Uuid,
        invoice_id -> Uuid,
        customer_id -> Uuid,
        status -> Text,
        currency -> Text,
        total_minor -> BigInt,
        created_at -> Timestamptz,
        paid_at -> Nullable<Timestamptz>,
        number -> BigInt,
        tax_minor -> BigInt,
        tax_rate_bps -> SmallInt,
        tax_is_included -> Bool,
    }
}

diesel::table! {
    jobs (job_id) {
        job_id -> Uuid,
        kind -> Text,
        key -> Text,
        payload -> Jsonb,
        run_at -> Timestamptz,
        state -> Text,
        attempts -> Integer,
        failures -> Integer,
        leased_until -> Nullable<Timestamptz>,
        last_error -> Nullable<Text>,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    outbox (tenant_id, event_id) {
        tenant_id -> Uuid,
        event_id -> Uuid,
        kind -> Text,
        subject -> Text,
        payload -> Jsonb,
        occurred_at -> Timestamptz,
        dispatched_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    payments (tenant_id, payment_id) {
        tenant_id -> Uuid,
        payment_id -> Uuid,
        invoice_id -> Uuid,
        status -> Text,
        amount_minor -> BigInt,
        currency -> Text,
        method -> Text,
        failure_code -> Nullable<Text>,
        created_at -> Timestamptz,
        succeeded_at -> Nullable<Timestamptz>,
        provider_ref -> Nullable<Text>,
        action_client_secret -> Nullable<Text>,
        action_url -> Nullable<Text>,
        mismatch_minor -> Nullable<BigInt>,
        mismatch_currency -> Nullable<Text>,
        refunded_minor -> BigInt,
    }
}

diesel::table! {
    promotion_uses (tenant_id, customer_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        promotion_code -> Text,
        subscription_id -> Uuid,
        fingerprint -> Nullable<Text>,
        used_at -> Timestamptz,
    }
}

diesel::table! {
    provider_accounts (tenant_id) {
        tenant_id -> Uuid,
        provider -> Text,
        account -> Nullable<Text>,
        is_live -> Bool,
        sealed_secret_key -> Bytea,
        sealed_signing_secrets -> Array<Bytea>,
        created_at -> Timestamptz,
        changed_at -> Timestamptz,
        reread_until -> Timestamptz,
    }
}

diesel::table! {
    provider_customers (tenant_id, customer_id) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        provider_customer -> Text,
        default_method -> Nullable<Text>,
        default_event_at -> Nullable<Timestamptz>,
        default_event_id -> Nullable<Text>,
        created_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    provider_events (tenant_id, event_id) {
        tenant_id -> Uuid,
        event_id -> Text,
        kind -> Text,
        state -> Text,
        reason -> Nullable<Text>,
        body -> Bytea,
        came_by -> Text,
        payment_id -> Nullable<Uuid>,
        told_at -> Nullable<Timestamptz>,
        received_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    purchases (tenant_id, purchase_id) {
        tenant_id -> Uuid,
        purchase_id -> Uuid,
        kind -> Text,
        subscription_id -> Nullable<Uuid>,
        cycle_number -> Nullable<Integer>,
        plan_code -> Nullable<Text>,
        catalog_version -> Nullable<Integer>,
        credits -> BigInt,
        invoice_id -> Uuid,
        status -> Text,
        granted_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        customer_id -> Uuid,
        top_up_code -> Nullable<Text>,
        lasts_days -> Nullable<Integer>,
        is_automatic -> Bool,
    }
}

diesel::table! {
    quotes (tenant_id, quote_id) {
        tenant_id -> Uuid,
        quote_id -> Uuid,
        subscription_id -> Uuid,
        cycle_number -> Integer,
        from_plan_code -> Text,
        to_plan_code -> Text,
        catalog_version -> Integer,
        amount_minor -> BigInt,
        currency -> Text,
        credits -> BigInt,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    refunds (tenant_id, refund_id) {
        tenant_id -> Uuid,
        refund_id -> Uuid,
        payment_id -> Uuid,
        invoice_id -> Uuid,
        amount_minor -> BigInt,
        currency -> Text,
        status -> Text,
        origin -> Text,
        reason -> Nullable<Text>,
        failure_code -> Nullable<Text>,
        credits_revoked -> BigInt,
        credits_short -> BigInt,
        created_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
        provider_ref -> Nullable<Text>,
    }
}

diesel::table! {
    rollovers (tenant_id, rollover_id) {
        tenant_id -> Uuid,
        rollover_id -> Uuid,
        state -> Text,
        cycles_closed -> BigInt,
        cycles_opened -> BigInt,
        cycles_skipped -> BigInt,
        subscriptions_ended -> BigInt,
        credits_expired -> BigInt,
        requested_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    saved_methods (tenant_id, method) {
        tenant_id -> Uuid,
        method -> Text,
        customer_id -> Uuid,
        fingerprint -> Nullable<Text>,
        brand -> Nullable<Text>,
        last4 -> Nullable<Text>,
        saved_at -> Timestamptz,
        detached_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    subscription_statuses (tenant_id, subscription_id, position) {
        tenant_id -> Uuid,
        subscription_id -> Uuid,
        position -> Integer,
        from_status -> Nullable<Text>,
        to_status -> Text,
        cause -> Text,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    subscriptions (tenant_id, subscription_id) {
        tenant_id -> Uuid,
        subscription_id -> Uuid,
        customer_id -> Uuid,
        status -> Text,
        plan_code -> Text,
        catalog_version -> Integer,
        currency -> Text,
        payment_method -> Text,
        discount_bps -> SmallInt,
        anchor_at -> Nullable<Timestamptz>,
        anchor_zone -> Nullable<Text>,
        cycle_number -> Nullable<Integer>,
        cycle_start -> Nullable<Timestamptz>,
        cycle_end -> Nullable<Timestamptz>,
        cancel_at_cycle_end -> Bool,
        scheduled_plan_code -> Nullable<Text>,
        created_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        term -> Text,
        annual_from -> Nullable<Integer>,
        anchor_kind -> Text,
        share_days -> SmallInt,
        share_of -> SmallInt,
        migrates -> Bool,
        is_suspended_by_dispute -> Bool,
    }
}

diesel::table! {
    tenants (tenant_id) {
        tenant_id -> Uuid,
        name -> Text,
        mode -> Text,
        zone -> Text,
        policies -> Jsonb,
        clock_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    transfers (tenant_id, customer_id, version) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        version -> BigInt,
        debit -> Text,
        credit -> Text,
        grant_id -> Nullable<Uuid>,
        credits -> BigInt,
        cause_kind -> Text,
        cause_id -> Uuid,
        event_time -> Timestamptz,
        recorded_at -> Timestamptz,
        chain -> Bytea,
        reverses -> Nullable<BigInt>,
    }
}

diesel::table! {
    usage_events (tenant_id, identity) {
        tenant_id -> Uuid,
        identity -> Uuid,
        customer_id -> Uuid,
        source -> Text,
        event_id -> Text,
        model -> Text,
        input_tokens -> BigInt,
        cache_read_tokens -> BigInt,
        cache_write_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        outcome -> Text,
        usage_source -> Text,
        event_time -> Timestamptz,
        recorded_at -> Timestamptz,
        hold_id -> Nullable<Text>,
        hold -> Text,
        hold_reason -> Nullable<Text>,
        unrated_reason -> Nullable<Text>,
        credits -> BigInt,
        overage -> BigInt,
        catalog_version -> Nullable<Integer>,
        band_prompt_tokens_max -> Nullable<BigInt>,
        rates -> Jsonb,
        draws -> Jsonb,
        balance_after -> BigInt,
        account_version -> BigInt,
        api_key -> Nullable<Text>,
        tried_version -> Nullable<Integer>,
        calls -> Nullable<Jsonb>,
    }
}

diesel::table! {
    usage_hours (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key) {
        tenant_id -> Uuid,
        customer_id -> Uuid,
        hour -> Timestamptz,
        model -> Text,
        band_prompt_tokens_max -> BigInt,
        api_key -> Text,
        events -> BigInt,
        input_tokens -> BigInt,
        cache_read_tokens -> BigInt,
        cache_write_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        credits -> BigInt,
        overage -> BigInt,
    }
}

diesel::table! {
    usage_identities (tenant_id, identity) {
        tenant_id -> Uuid,
        identity -> Uuid,
        content -> Uuid,
        customer_id -> Uuid,
        event_time -> Timestamptz,
    }
}

diesel::table! {
    usage_payg (tenant_id, identity) {
        tenant_id -> Uuid,
        identity -> Uuid,
        customer_id -> Uuid,
        event_time -> Timestamptz,
        model -> Text,
        currency -> Text,
        credits -> BigInt,
        pico -> Numeric,
        past_cap_pico -> Numeric,
        lines -> Jsonb,
        unrated_reason -> Nullable<Text>,
        recorded_at -> Timestamptz,
        voided_at -> Nullable<Timestamptz>,
        invoice_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    usage_quarantined (tenant_id, identity) {
        tenant_id -> Uuid,
        identity -> Uuid,
        content -> Uuid,
        customer_id -> Uuid,
        source -> Text,
        event_id -> Text,
        model -> Text,
        usage_format -> Text,
        usage -> Text,
        outcome -> Text,
        usage_source -> Text,
        sent_time -> Nullable<Timestamptz>,
        hold_id -> Nullable<Text>,
        reason -> Text,
        message -> Text,
        received_at -> Timestamptz,
        api_key -> Nullable<Text>,
    }
}

diesel::table! {
    usage_retention (is_only) {
        is_only -> Bool,
        kept_from -> Timestamptz,
    }
}

diesel::table! {
    usage_voids (tenant_id, identity) {
        tenant_id -> Uuid,
        identity -> Uuid,
        customer_id -> Uuid,
        event_time -> Timestamptz,
        voided_at -> Timestamptz,
        reason -> Text,
        credits -> BigInt,
        overage -> BigInt,
        spendable -> BigInt,
        balance_after -> BigInt,
        account_version -> BigInt,
        voided_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    webhook_deliveries (tenant_id, event_id, endpoint_id) {
        tenant_id -> Uuid,
        event_id -> Uuid,
        endpoint_id -> Uuid,
        state -> Text,
        attempts -> Integer,
        due_at -> Nullable<Timestamptz>,
        last_status -> Nullable<SmallInt>,
        last_error -> Nullable<Text>,
        created_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
        due_by_clock -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_endpoints (tenant_id, endpoint_id) {
        tenant_id -> Uuid,
        endpoint_id -> Uuid,
        url -> Text,
        sealed_secret -> Bytea,
        created_at -> Timestamptz,
        disabled_at -> Nullable<Timestamptz>,
        leased_until -> Nullable<Timestamptz>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    adjustments,
    api_keys,
    campaign_tags,
    campaigns,
    catalog_versions,
    credit_accounts,
    credit_note_lines,
    credit_notes,
    customers,
    cycle_grants,
    cycles,
    disputes,
    dunnings,
    exhaustion_settings,
    grants,
    holds,
    hot_state,
    idempotency_keys,
    invoice_counters,
    invoice_lines,
    invoices,
    jobs,
    outbox,
    payments,
    promotion_uses,
    provider_accounts,
    provider_customers,
    provider_events,
    purchases,
    quotes,
    refunds,
    rollovers,
    saved_methods,
    subscription_statuses,
    subscriptions,
    tenants,
    transfers,
    usage_events,
    usage_hours,
    usage_identities,
    usage_payg,
    usage_quarantined,
    usage_voids,
    webhook_deliveries,
    webhook_endpoints,
);
