#!/bin/sh
# The README's picture: the top of a report, as a browser shows it.
# Usage: scripts/report_picture.sh demo-out/report.html docs/images/demo.png
set -eu
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
chromium --headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run \
  --hide-scrollbars --user-data-dir="$profile" --window-size=1280,1240 \
  --screenshot="$2" "file://$(realpath "$1")" >/dev/null 2>&1
ls -l "$2"
