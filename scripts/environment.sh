# Sourced by ./demo and ./test: makes .venv with Python 3.11 or newer and installs tomadapt into it.
# Usage: prepare_environment EXTRAS   (for example "" or "[dev]")

find_python() {
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python3.14; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  echo "tomadapt needs Python 3.11 or newer; none was found. Install one, or set PYTHON." >&2
  return 1
}

prepare_environment() {
  extras=$1
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python) || return 2
    # Debian and Ubuntu ship venv as a package of its own.
    "$python" -m venv .venv || {
      rm -rf .venv
      echo "Could not make .venv. On Debian or Ubuntu: sudo apt install python3-venv" >&2
      return 2
    }
  fi
  # Installed again only when what is to be installed has changed.
  wanted="$extras $(cat pyproject.toml constraints.txt | cksum) $PWD"
  more="[dev] ${wanted#"$extras "}"  # with the tests' tools there is all that the demo needs
  have=$(cat .venv/installed 2>/dev/null || true)
  if [ "$have" != "$wanted" ] && [ "$have" != "$more" ]; then
    echo "Installing tomadapt into .venv (a few minutes the first time) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      -c constraints.txt -e ".$extras" || return 2
    echo "$wanted" > .venv/installed
  fi
}
