#!/bin/sh
# An API that may be read, and where a POST asks at the terminal. Needs python3, curl, openssl, and cofferdam (or COFFERDAM=path).
program=api.py
. "$(dirname "$0")/../start.sh"
(umask 077 && openssl rand -hex 20 >"$work/token")

contained -- sh -c '
  api=https://host.cofferdam.internal:'"$port"'
  ask() { curl -sS -w "  <- %{http_code}" "$@"; }
  echo "reads:                $(ask $api/incidents)"
  echo "adds a note:          $(ask -o /dev/null -d text=seen $api/incidents/17/notes)"
  echo "closes it:            $(ask -o /dev/null -X DELETE $api/incidents/17)"
'
echo "the server saw:"
sed 's/^/  /' "$work/asked"
