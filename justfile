# Short names for cargo commands; cargo alone will do.

# Everything on this machine: servers, demo tenant, API, worker
dev *ARGS:
    cargo run -- dev {{ARGS}}

# All tests
test *ARGS:
    cargo test {{ARGS}}

# What CI runs
check:
    bash .ci/run

# Write the OpenAPI document anew
openapi:
    cargo run -- openapi --out openapi/tollgate.json
