#!/bin/sh
# Install the foreign registry and programs that tests/real drives, where that can be done.
set -u
missing=""
for program in docker-registry nginx skopeo umoci buildah openssl zstd; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Not installed:$missing. The tests that need them are skipped (install them with apt-get)."
    exit 0
fi
echo "Installing test peers:$missing"
export DEBIAN_FRONTEND=noninteractive
# RUNLEVEL=1: install the programs without starting the registry as a system service.
apt-get update -qq >/dev/null 2>&1
for package in $missing; do
    RUNLEVEL=1 apt-get install -qq -y --no-install-recommends "$package" >/dev/null 2>&1 ||
        echo "Could not install $package. The tests that need it are skipped."
done
