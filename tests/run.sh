#!/usr/bin/env bash
# The whole test suite, the GPU's half included: on a machine with no Vulkan adapter it installs Mesa's software one.
#
#   ./tests/run.sh [arguments of cargo test]
#
# FEDCIRCUIT_DATA names the folder with MNIST for the tests on real data; without it, and without ./data, these are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

# Mesa's CPU driver starts a thread a core and the test harness runs a test a core: one driver thread keeps the two from
# fighting over the cores, and makes the timing of a test its own.
export LP_NUM_THREADS=1
# Vulkan loaders and Mesa complain on every start where a session has not set it, as in containers.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
    export XDG_RUNTIME_DIR
fi

has_gpu() {
    # Every machine lists the CPU engine; whatever has another backend is a GPU, real or software.
    "${CARGO_TARGET_DIR:-target}/release/fedcircuit" devices --json | grep -E '"backend": "(vulkan|metal|dx12)"' >/dev/null
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_software_vulkan() {
    echo "no Vulkan adapter here: installing Mesa's software one"
    if command -v apt-get >/dev/null; then
        local install="apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1"
        # The list of packages may be absent, as in containers, or too old to be of use: then it is fetched first.
        # shellcheck disable=SC2086
        as_root $install || { as_root apt-get update && as_root $install; }
    elif command -v dnf >/dev/null; then
        as_root dnf install -y mesa-vulkan-drivers vulkan-loader
    elif command -v pacman >/dev/null; then
        as_root pacman -S --noconfirm --needed vulkan-swrast vulkan-icd-loader
    else
        echo "no apt-get, dnf or pacman here: install a Vulkan driver (Mesa's lavapipe will do) and run this again" >&2
        exit 1
    fi
}

# With the program: `cargo build` would build much of it again, since what only tests need adds features to crates.
cargo test --release --no-run
has_gpu || install_software_vulkan

# From here on a missing adapter is a failure, not a skipped test.
export FEDCIRCUIT_REQUIRE_GPU=1
if [ -z "${FEDCIRCUIT_DATA:-}" ] && [ -d data/mnist ]; then
    FEDCIRCUIT_DATA=$PWD/data
    export FEDCIRCUIT_DATA
fi

cargo test --release "$@"
