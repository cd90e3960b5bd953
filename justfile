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

# Kill everything under load, 300 times, and check that nothing was lost (25 minutes)
torture *ARGS:
    cargo build --release -p tollgate -p torture
    target/release/torture --kills 300 --events 1000000 {{ARGS}}

# Write the OpenAPI document anew
openapi:
    cargo run -- openapi --out openapi/tollgate.json
