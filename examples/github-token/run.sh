#!/bin/sh
# A GitHub-like API with a placeholder token. Needs python3, curl, openssl, and cofferdam (or COFFERDAM=path).
program=api.py
. "$(dirname "$0")/../start.sh"
token=ghp_$(openssl rand -hex 18)
(umask 077 && echo "$token" >"$work/token")

contained -- sh -c '
  api=https://host.cofferdam.internal:'"$port"'
  ask() { curl -sS -w "  <- %{http_code}\n" -H "Authorization: Bearer $GITHUB_TOKEN" "$@"; }
  echo "the agent holds:      $GITHUB_TOKEN"
  echo "its repository:       $(ask $api/repos/acme/app)"
  echo "an issue in it:       $(ask -d title=x $api/repos/acme/app/issues)"
  echo "an echo of the token: $(ask $api/repos/acme/app/debug)"
  echo "another repository:   $(ask -o /dev/null $api/repos/acme/other)"
  echo "deleting its own:     $(ask -o /dev/null -X DELETE $api/repos/acme/app)"
'
echo "the server saw:"
sed 's/^/  /' "$work/asked"
