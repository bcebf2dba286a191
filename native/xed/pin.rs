// Empty: cargo asks every package for a target. See Cargo.toml.
