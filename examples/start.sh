# Sourced by each example's run.sh: a folder that goes with it, the server of the example, the policy with the server's port.
# `program` is the server's script; sets work and port, and defines contained.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cofferdam=$(command -v "${COFFERDAM:-cofferdam}") || {
  echo "${COFFERDAM:-cofferdam} is not to be found: set COFFERDAM to the program's path" >&2
  exit 127
}
cofferdam=$(realpath "$cofferdam")
work=$(mktemp -d)
mkdir "$work/project"
mkfifo "$work/ready"
python3 "$here/$program" "$work" >"$work/ready" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM   # a shell that a signal ends does not come to its EXIT trap by itself
read -r port <"$work/ready"
sed "s/8443/$port/" "$here/policy.yaml" >"$work/policy.yaml"

# Runs a command in the sandbox. The server's authority is one that the gateway trusts, in place of this machine's.
contained() {
  (cd "$work/project" && SSL_CERT_FILE=$work/ca.pem "$cofferdam" run --quiet --policy "$work/policy.yaml" "$@")
}
