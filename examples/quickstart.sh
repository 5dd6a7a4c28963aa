#!/usr/bin/env bash
# sensorsync on a fresh machine, with one command: a signed load goes through an embedded broker into SQLite, and an audit
# proves that every message arrived. Then a recording of a real weather station goes the same way, and is queried back.
#
#   bash examples/quickstart.sh                            the whole
#   bash examples/quickstart.sh --messages 50000 --json    the load only; stdout is the JSON envelope alone
#   bash examples/quickstart.sh --help                     what else `sensorsync demo` takes
#
# Needs Python 3.11 or newer with pip (QUICKSTART_PYTHON names another than python3). Installs into a virtual environment in
# ${XDG_CACHE_HOME:-~/.cache}/sensorsync/quickstart and nowhere else; delete that folder to undo it.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sensorsync/quickstart
venv=$cache/venv

die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in ${QUICKSTART_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$candidate"; return; fi
    done
    die "needs Python 3.11 or newer; set QUICKSTART_PYTHON to one"
}

# What is installed is this checkout, as it is now, for this Python.
fingerprint() {
    "$1" - "$checkout" <<'PYTHON'
import hashlib, pathlib, sys
digest = hashlib.sha256(sys.version.encode())
root = pathlib.Path(sys.argv[1])
for path in sorted([root / "pyproject.toml", *(p for p in (root / "sensorsync").rglob("*") if p.is_file() and p.suffix != ".pyc")]):
    digest.update(str(path).encode() + b"\0" + path.read_bytes())
print(digest.hexdigest())
PYTHON
}

install() {
    local python stamp
    python=$(find_python)
    stamp=$(fingerprint "$python")
    [ "$(cat "$venv/.installed" 2>/dev/null)" != "$stamp" ] || return 0
    say "installing sensorsync into $venv (once)"
    mkdir -p "$cache"
    rm -rf "$venv"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv" >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${checkout}[demo]" >&2
    else
        # Debian keeps ensurepip in a package of its own; the pip that is there can install into another environment.
        "$python" -m venv --without-pip "$venv" >&2
        "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check "${checkout}[demo]" >&2 ||
            die "needs pip (Debian: apt-get install python3-pip, or python3-venv)"
    fi
    echo "$stamp" >"$venv/.installed"
}

install
for argument in "$@"; do
    case $argument in --json | --help | -h) exec "$venv/bin/sensorsync" demo "$@" ;; esac
done

"$venv/bin/sensorsync" demo "$@"

say ""
say "now a real recording: the weather station at JFK airport, 2013 (examples/data)"
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
TMPDIR=$kept "$venv/bin/sensorsync" demo --file "$checkout/examples/data/kjfk-2013.jsonl" --keep --json >"$kept/envelope.json" ||
    { cat "$kept/envelope.json" >&2; die "the recording did not arrive whole"; }
"$venv/bin/python" "$checkout/examples/monthly.py" "$kept/envelope.json"
