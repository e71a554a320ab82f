# Sourced by the runs in this folder, in the root of the checkout: servers that others wrote, installed once into a cache
# and started on ports of 127.0.0.1. Whatever was started ends with the shell that sourced this.
#
# $peers is the cache, $work a folder of this run alone. Each start_NAME sets a variable with the server's URL.
set -euo pipefail

peers=${STANDPIPE_PEERS:-$HOME/.cache/standpipe-peers}
mkdir -p "$peers"
work=$(mktemp -d)
started=()

finish() {
  local code=$?
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  # The logs of a run that went wrong are worth keeping.
  if [ -n "${STANDPIPE_KEEP:-}" ] || [ "$code" != 0 ]; then echo "the files of this run are in $work"; else rm -rf "$work"; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

retry() { # a download may fail once or twice
  for _ in 1 2 3; do "$@" && return 0; sleep 10; done
  return 1
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for NAME URL: until the server that was started last answers anything at all over HTTP
wait_for() {
  for _ in $(seq 600); do
    kill -0 "${started[-1]}" 2>/dev/null || break
    python3 - "$2" <<'PY' && return 0
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=2)
except urllib.error.HTTPError:
    pass
except OSError:
    sys.exit(1)
PY
    sleep 0.1
  done
  echo "$1 does not answer at $2" >&2
  tail -20 "$work/$1.log" >&2
  return 1
}

# start NAME COMMAND...: in the background, its output in $work/NAME.log
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 </dev/null &
  started+=($!)
}

# moto's DynamoDB, by many. Sets $dynamodb. With one thread: its conditional writes are no atomic ones with several. The
# server that Amazon gives away is not used: its licence is its vendor's own. $STANDPIPE_PEERS_DYNAMODB names any other
# server that runs already.
install_dynamodb() {
  local version=5.2.5
  dynamodb_python=$peers/moto-$version
  [ -f "$dynamodb_python/done" ] && return
  python3 -m venv "$dynamodb_python"
  retry "$dynamodb_python/bin/pip" install --quiet "moto[server,dynamodb]==$version" waitress==3.0.2
  touch "$dynamodb_python/done"
}

start_dynamodb() {
  if [ -n "${STANDPIPE_PEERS_DYNAMODB:-}" ]; then
    dynamodb=$STANDPIPE_PEERS_DYNAMODB
    return
  fi
  install_dynamodb
  local port
  port=$(free_port)
  start dynamodb "$dynamodb_python/bin/python" -c "
import waitress
from moto.server import DomainDispatcherApplication, create_backend_app
waitress.serve(DomainDispatcherApplication(create_backend_app), host='127.0.0.1', port=$port, threads=1, _quiet=True)"
  dynamodb=http://127.0.0.1:$port
  wait_for dynamodb "$dynamodb"
}

# kinesis-local (kinesis-mock), by etspaceman. Sets $kinesis.
install_kinesis() {
  local version=0.6.2
  kinesis_lib=$peers/kinesis-local-$version
  [ -f "$kinesis_lib/done" ] && return
  mkdir -p "$kinesis_lib"
  retry npm install --silent --no-fund --no-audit --prefix "$kinesis_lib" "kinesis-local@$version"
  touch "$kinesis_lib/done"
}

start_kinesis() {
  install_kinesis
  local package=$kinesis_lib/node_modules/kinesis-local port tls
  port=$(free_port)
  tls=$(free_port)
  start kinesis env KINESIS_MOCK_CERT_PATH="$package/server.json" KINESIS_MOCK_PLAIN_PORT="$port" \
    KINESIS_MOCK_TLS_PORT="$tls" SHARD_LIMIT=500 LOG_LEVEL=ERROR "${kinesis_environment[@]}" node "$package/main.js"
  kinesis=http://127.0.0.1:$port
  wait_for kinesis "$kinesis"
}
# More of its settings, as NAME=VALUE.
kinesis_environment=()

# versitygw, by Versity: S3 over a folder, with signatures checked. Sets $s3 and $s3_root; the key is standpipe/standpipe.
install_s3() {
  local version=v1.8.0
  s3_program=$peers/versitygw-$version/versitygw
  [ -x "$s3_program" ] && return
  GOBIN=${s3_program%/*} retry go install "github.com/versity/versitygw/cmd/versitygw@$version"
}

start_s3() {
  install_s3
  local port
  port=$(free_port)
  s3_root=$work/objects
  mkdir -p "$s3_root" "$work/sidecar"
  start s3 "$s3_program" --port "127.0.0.1:$port" --access standpipe --secret standpipe posix \
    --sidecar "$work/sidecar" "$s3_root"
  s3=http://127.0.0.1:$port
  wait_for s3 "$s3"
}

# PostgreSQL, Debian's, under a user of its own, for it does not run as root. Sets $postgres_port and $postgres_bin; the
# role `rs` may do everything, and the database `dev` is there. Its data lies in $work/postgres. Without fsync: a server
# that is killed comes back whole all the same, a machine that loses power would not.
install_postgres() {
  postgres_bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
  [ -z "$postgres_bin" ] || return 0
  retry apt-get update -qq
  retry env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
  postgres_bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1)
}

start_postgres() {
  install_postgres
  local data=$work/postgres as=()
  postgres_port=$(free_port)
  mkdir -p "$data"
  if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chmod 711 "$work"
    chown postgres "$data"
  fi
  "${as[@]}" "$postgres_bin/initdb" -D "$data" -A trust -U rs --encoding=UTF8 --locale=C --no-sync >"$work/initdb.log" 2>&1
  cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $postgres_port
unix_socket_directories = ''
fsync = off
full_page_writes = off
max_connections = 300
max_wal_size = 2GB
CONF
  start postgres "${as[@]}" "$postgres_bin/postgres" -D "$data"
  for _ in $(seq 300); do
    if "$postgres_bin/psql" -qAt -h 127.0.0.1 -p "$postgres_port" -U rs -d postgres -c 'SELECT 1' >/dev/null 2>&1; then
      "$postgres_bin/psql" -qAt -h 127.0.0.1 -p "$postgres_port" -U rs -d postgres -c 'CREATE DATABASE dev'
      return 0
    fi
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "postgres does not answer" >&2
  tail -20 "$work/postgres.log" >&2
  return 1
}
