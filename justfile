# Thin names over tests/run. Nothing needs `just`.

# List what there is.
default:
  @just --list

# Everything a change must pass.
gate:
  .ci/run

# One step: prepare fmt lint doc test generated quickstart examples.
step name:
  tests/run {{name}}

# Format the source.
fmt:
  cargo fmt --all

# The quick look while editing.
check:
  cargo clippy --all-targets -- -D warnings
  cargo test --test architecture

# Write expectations, schemas, the manual, the metrics list and the README's table anew.
update:
  UPDATE_EXPECT=1 cargo test
  cargo run --quiet -- generate supported > target/supported.md
  sed -i -e '/<!-- supported:begin -->/,/<!-- supported:end -->/{//!d}' \
    -e '/<!-- supported:begin -->/r target/supported.md' README.md

# A cluster in one process, in the foreground.
dev dir="target/dev":
  cargo run -- dev --dir {{dir}}

# Figures, by hand.
bench name:
  cargo bench -- {{name}}
