#!/usr/bin/env bash
# Whether the program, its tests and its benchmarks compile for Windows and macOS, from any machine with rustup. Checked is what
# Rust says: nothing is linked, so the C parts of a dependency are left out, for which another system's compiler would be needed.
set -euo pipefail
cd "$(dirname "$0")/.."

for target in x86_64-pc-windows-gnu aarch64-apple-darwin; do
    rustup target add "$target"
    TARGET_CC=true TARGET_AR=true RUSTFLAGS='-D warnings' cargo check --all-targets --target "$target"
done
