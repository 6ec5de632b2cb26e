# packages.sh KIND [CARGO]: a package manager as people run it, with a registry of the lab; exit 0 where the package came.
set -eu
base=https://git.test/files
folder=$PWD/packages-$CANARY
mkdir -p "$folder"
cd "$folder"
export HOME=$folder
case $1 in
pip)
  /usr/bin/python3 -m pip install -q --disable-pip-version-check --index-url $base/simple --target there lab-thing
  grep -q 'from pip' there/lab_thing.py ;;
npm)
  npm install ${LAB_CA_FILE:+--cafile "$LAB_CA_FILE"} --fetch-retries 0 --loglevel error --no-audit --no-fund --no-update-notifier --registry $base/npm/ lab-thing
  grep -q 'from npm' node_modules/lab-thing/index.js ;;
cargo)
  mkdir src
  echo 'fn main() {}' >src/main.rs
  printf '[package]\nname = "one"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\nlab-thing = { version = "1", registry = "lab" }\n' >Cargo.toml
  CARGO_REGISTRIES_LAB_INDEX=sparse+$base/index/ "$2" vendor -q there >/dev/null
  grep -q 'From cargo' there/lab-thing/src/lib.rs ;;
apt | apt-https)
  [ "$1" = apt ] && from=http://git.test/files/apt || from=$base/apt
  echo "deb [trusted=yes] $from ./" >sources.list
  mkdir -p state/lists/partial cache/archives/partial
  touch status
  options="-o Dir::State=$folder/state -o Dir::State::status=$folder/status -o Dir::Cache=$folder/cache"
  options="$options -o Dir::Etc::SourceList=$folder/sources.list -o Dir::Etc::SourceParts=- -o Dir::Etc::Parts=-"
  options="$options -o APT::Sandbox::User= ${LAB_CA_FILE:+-o Acquire::https::CAInfo=$LAB_CA_FILE} -o Acquire::Languages=none"
  apt-get -q $options update
  apt-get -q $options download lab-thing
  grep -q 'from apt' lab-thing_1.0.0_all.deb ;;
go)
  printf 'module one\n\ngo 1.19\n' >go.mod
  export GOPROXY=$base/go GOSUMDB=off GOFLAGS=-modcacherw GOPATH=$folder/go GOCACHE=$folder/cache GOTOOLCHAIN=local
  go get lab.test/thing@v1.0.0
  grep -q 'package thing' go/pkg/mod/lab.test/thing@v1.0.0/thing.go ;;
terraform)
  printf 'terraform {\n  required_providers {\n    thing = { source = "lab.test/acme/thing" }\n  }\n}\n' >main.tf
  printf 'provider_installation {\n  network_mirror {\n    url = "%s/terraform/"\n  }\n}\n' $base >terraform.rc
  TF_CLI_CONFIG_FILE=$folder/terraform.rc CHECKPOINT_DISABLE=1 terraform init -input=false -no-color >/dev/null
  find .terraform -name 'terraform-provider-thing_v1.0.0' | grep -q . ;;
kubectl)
  kubectl --server https://git.test ${LAB_CA_FILE:+--certificate-authority "$LAB_CA_FILE"} --token x get --raw /files/cluster/version | grep -q '"30"' ;;
*)
  echo "no such manager: $1" >&2
  exit 2 ;;
esac
