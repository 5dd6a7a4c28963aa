#!/usr/bin/env bash
# Everything that has to hold before a change lands: lint, types, import rules, all tests with coverage.
#
#   bash tests/run.sh [PYTEST ARGUMENT...]            the whole
#   bash tests/run.sh --db-only [PYTEST ARGUMENT...]  only the tests marked `database` (a second pass against another server)
#   bash tests/run.sh --long [PYTEST ARGUMENT...]     the whole, and the tests marked `long`, too
#   bash tests/run.sh --audit                         only: has a package that is installed here a known vulnerability? Needs the
#                                                     Internet, and its answer changes from day to day, so it is no part of the whole
#
# Makes or reuses .venv, and gets mosquitto, MariaDB and what else the tests want from the distribution where it may. Environment:
#   SENSORSYNC_TEST_PYTHON     the Python to make .venv with (default: the first of python3, python3.13, ... that is 3.11 or newer)
#   SENSORSYNC_TEST_MYSQLD     a folder made by tests/tools/real-mysql: run the database tests against Oracle MySQL
#   SENSORSYNC_TEST_MOSQUITTO  a mosquitto program, or such a folder
#   SENSORSYNC_TEST_WORKERS    so many tests at once (default: one more than there are processors, because most of them wait)
#   CI                         when set, a missing service fails its tests instead of skipping them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'tests/run.sh: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly, or with a sudo that asks nothing. Fails when neither is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

# Installs Debian packages without letting them start a service: a broker on port 1883 could be taken for one of the user's.
apt_install() {
    command -v apt-get >/dev/null && as_root true || return 1
    as_root sh -c '
        export DEBIAN_FRONTEND=noninteractive
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
            trap "rm -f /usr/sbin/policy-rc.d" EXIT
        fi
        apt-get -qq update && apt-get -qq -y install --no-install-recommends "$@" >/dev/null' apt_install "$@"
}

# The storage engine BLACKHOLE, for the tests of tables that keep nothing: one file of a package whose other files would make
# MariaDB a service.
get_blackhole() {
    local folder=.venv/mariadb-plugins
    [ -n "${SENSORSYNC_TEST_MYSQLD:-}" ] && return
    [ -e /usr/lib/mysql/plugin/ha_blackhole.so ] || [ -e "$folder" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    mkdir -p "$folder.new"
    if (cd "$folder.new" && apt-get -qq download mariadb-server 2>/dev/null && dpkg-deb --fsys-tarfile mariadb-server_*.deb |
        tar -x --strip-components=5 ./usr/lib/mysql/plugin/ha_blackhole.so && rm -f -- *.deb); then
        mv "$folder.new" "$folder"
    else
        rm -rf "$folder.new"
        echo "could not get the storage engine BLACKHOLE of MariaDB: its tests are skipped"
    fi
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${SENSORSYNC_TEST_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    die "needs Python 3.11 or newer; set SENSORSYNC_TEST_PYTHON"
}

make_venv() {
    local python stamp
    if ! new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        say "making .venv with $("$python" --version)"
        "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv ||
            die "this Python cannot make a virtual environment (Debian: apt-get install python3-venv)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    stamp=$(cat pyproject.toml tests/run.sh | sha256sum)
    if [ "$(cat .venv/.sensorsync-tests 2>/dev/null)" != "$stamp" ]; then
        say "installing sensorsync[dev,demo] into .venv"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,demo]'
        echo "$stamp" >.venv/.sensorsync-tests
    fi
}

get_services() {
    local packages=()
    PATH=$PATH:/usr/sbin:/sbin
    [ -n "${SENSORSYNC_TEST_MOSQUITTO:-}" ] || command -v mosquitto >/dev/null || packages+=(mosquitto)
    if [ -z "${SENSORSYNC_TEST_MYSQLD:-}" ]; then
        # The server alone, without the package that would make it a service.
        command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || packages+=(mariadb-server-core)
        # The clients of docs/tutorial/first-pipeline.md: mariadb-admin is not in mariadb-client-core.
        command -v mariadb >/dev/null && command -v mariadb-admin >/dev/null || packages+=(mariadb-client)
    fi
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(libfaketime)
    # Its other commands, and the one of docs/how-to/troubleshoot-connection.md.
    command -v mosquitto_pub >/dev/null || packages+=(mosquitto-clients)
    command -v openssl >/dev/null || packages+=(openssl)
    # The programs of docs/how-to/sign-messages.md.
    command -v node >/dev/null || packages+=(nodejs)
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    [ -e /usr/include/mbedtls/md.h ] || packages+=(libmbedtls-dev)
    [ "${#packages[@]}" = 0 ] && return
    say "getting ${packages[*]}"
    apt_install "${packages[@]}" || echo "could not install ${packages[*]}: their tests are skipped (or fail, where CI is set)"
}

# pip-audit in an environment of its own: it must not change what it looks at. What it knows nothing of is a failure, too.
audit() {
    local place
    place=$(mktemp -d)
    # shellcheck disable=SC2064 # now: at the exit there is no $place any more
    trap "rm -rf '$place'" EXIT
    say "getting pip-audit"
    .venv/bin/python -m venv "$place/venv"
    "$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit
    .venv/bin/python -m pip freeze --exclude-editable >"$place/installed.txt"
    say "known vulnerabilities"
    "$place/venv/bin/pip-audit" --strict --disable-pip --no-deps --progress-spinner off --requirement "$place/installed.txt"
}

if [ "${1:-}" = --audit ]; then make_venv; audit; exit; fi
db_only=
if [ "${1:-}" = --db-only ]; then db_only=1; shift; fi
make_venv
get_services
get_blackhole
PATH=$PWD/.venv/bin:$PATH

# Each worker has its own servers. One that is done takes tests from another: the slowest are collected first.
workers=(-n "${SENSORSYNC_TEST_WORKERS:-$(($(nproc) + 1))}" --dist worksteal)

if [ -n "$db_only" ]; then
    say "database tests${SENSORSYNC_TEST_MYSQLD:+ against Oracle MySQL}"
    exec python -m pytest "${workers[@]}" -m database "$@"
fi

say "ruff"
ruff check .
ruff format --check .
say "mypy"
mypy
say "import rules"
lint-imports --no-cache --no-logo
say "tests"
status=0
python -m pytest "${workers[@]}" --cov --cov-report= "$@" || status=$?
say "coverage"
coverage report
exit "$status"
