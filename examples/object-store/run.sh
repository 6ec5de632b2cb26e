#!/bin/sh
# An S3-like store whose key never enters the sandbox. Needs python3, curl, openssl, and cofferdam (or COFFERDAM=path).
program=store.py
. "$(dirname "$0")/../start.sh"
(umask 077 && openssl rand -hex 20 >"$work/secret-access-key")

contained -- sh -c '
  store=https://host.cofferdam.internal:'"$port"'
  ask() { curl -sS -w "  <- %{http_code}" "$@"; }
  echo "keys the agent holds: $(env | grep -c "^AWS_.*\(KEY\|TOKEN\)" || true)"
  printf "checkout is slow since 3 am" >report
  echo "writes a report:      $(ask -T report $store/reports/2026-11-21.txt)"
  echo "reads it again:       $(ask $store/reports/2026-11-21.txt)"
  echo "another bucket:       $(ask -o /dev/null $store/customers/all.csv)"
  echo "deleting the report:  $(ask -o /dev/null -X DELETE $store/reports/2026-11-21.txt)"
'
echo "the store saw:"
sed 's/^/  /' "$work/asked"
echo "without a signature:  $(curl -sS --cacert "$work/ca.pem" --resolve "host.cofferdam.internal:$port:127.0.0.1" \
  -w '  <- %{http_code}' "https://host.cofferdam.internal:$port/reports/2026-11-21.txt")"
