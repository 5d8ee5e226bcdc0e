# SPDX-License-Identifier: MIT
# Shared by the scripts in this folder: what the project needs on a Debian machine, and how it is built.
# Sourced by bash; `top` is the checkout, `build` where the plain build goes.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${HEAPMARK_BUILD:-$top/build}
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}

# Packages by purpose.  `wanted` ones only widen what the tests cover: where a release lacks one, its tests are skipped.
packages_build=(gcc g++ make autoconf automake libtool pkg-config libc6-dev libunwind-dev libdw-dev libiberty-dev
  zlib1g-dev uthash-dev)
packages_demo=(python3 python3-pandas)
packages_test=(check bats perl binutils python3 jq sqlite3 procps)
packages_wanted=(valgrind python3-pandas python3-numpy git ripgrep redis-server redis-tools nodejs
  default-jre-headless xz-utils mandoc file dwz patchelf libcap2-bin python3-yaml
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
  libjemalloc2 libtcmalloc-minimal4 libtcmalloc-minimal4t64 libmimalloc2.0 libmimalloc3)

# Its name carries the version; to be asked for when python3 is installed.
python_testsuite() { /usr/bin/python3 -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])'; }

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# missing PACKAGE...: prints those that are not installed.
missing() {
    local package
    for package; do installed "$package" || printf '%s\n' "$package"; done
}

# apt ARGUMENT...: apt-get without its chatter, which is shown when it fails.
apt() {
    local -a sudo=()
    local said
    ((EUID == 0)) || sudo=(sudo)
    said=$("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" 2>&1) && return 0
    tail -n 15 <<<"$said" >&2
    return 1
}

apt_updated=
apt_install() {
    [[ $apt_updated ]] || apt update || say "apt-get update failed; going on with the lists that are here"
    apt_updated=1
    apt install -y --no-install-recommends "$@"
}

# can_install PACKAGE...: false, with one sentence, where this machine cannot install packages.
can_install() {
    if ! command -v apt-get >/dev/null; then
        say "this is not a Debian machine; its own packages for these are needed: $*"
    elif ((EUID != 0)) && ! command -v sudo >/dev/null; then
        say "missing: $*; run this as root, or: apt-get install $*"
    else
        return 0
    fi
    return 1
}

# install_needed PACKAGE...: installs what is missing, says so; ends the script where that fails.
install_needed() {
    local -a need
    mapfile -t need < <(missing "$@")
    ((${#need[@]})) || return 0
    if ! command -v dpkg-query >/dev/null; then
        can_install "${need[@]}"
        return 0                        # configure names what is really missing
    fi
    can_install "${need[@]}" || exit 1
    say "installing: ${need[*]}"
    apt_install "${need[@]}" || die "could not install: ${need[*]}"
}

# install_wanted PACKAGE...: the same, but what this release does not have is left out.
install_wanted() {
    local -a need
    local package
    command -v dpkg-query >/dev/null || return 0
    mapfile -t need < <(missing "$@")
    ((${#need[@]})) && can_install "${need[@]}" || return 0
    mapfile -t need < <(for package in "${need[@]}"; do apt-cache show "$package" >/dev/null 2>&1 && echo "$package"; done)
    ((${#need[@]})) || return 0
    say "installing: ${need[*]}"
    apt_install "${need[@]}" 2>/dev/null && return 0
    for package in "${need[@]}"; do
        apt_install "$package" 2>/dev/null || say "not to be had here: $package"
    done
}

# build_in DIRECTORY [CONFIGURE-OPTION...]: configures once, then makes everything there.
build_in() {
    local directory=$1 log
    shift
    mkdir -p "$directory" && log=$directory/build.log || return 1
    : >"$log"
    if [[ ! -x $top/configure || $top/configure.ac -nt $top/configure ]]; then
        (cd "$top" && autoreconf -fi) >>"$log" 2>&1 || { tail -n 30 "$log" >&2; return 1; }
    fi
    if [[ ! -f $directory/Makefile ]]; then
        (cd "$directory" && "$top/configure" "$@") >>"$log" 2>&1 || { tail -n 30 "$log" >&2; return 1; }
    fi
    make -s -C "$directory" -j"$jobs" >>"$log" 2>&1 || { grep -E 'error|Error|undefined' "$log" >&2 || tail -n 30 "$log" >&2; return 1; }
}
