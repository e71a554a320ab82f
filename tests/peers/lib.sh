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
  [ -n "${STANDPIPE_KEEP:-}" ] && echo "the files of this run are in $work" || rm -rf "$work"
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

# DynamoDB Local, by Amazon. Sets $dynamodb.
install_dynamodb() {
  local version=2.6.1
  dynamodb_lib=$peers/dynamodb-local-$version
  [ -f "$dynamodb_lib/done" ] && return
  mkdir -p "$dynamodb_lib"
  cat >"$dynamodb_lib/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>standpipe</groupId><artifactId>peers</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>DynamoDBLocal</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
XML
  retry mvn -q -B -f "$dynamodb_lib/pom.xml" dependency:copy-dependencies -DoutputDirectory="$dynamodb_lib/lib"
  touch "$dynamodb_lib/done"
}

start_dynamodb() {
  install_dynamodb
  local port
  port=$(free_port)
  start dynamodb java -Xmx512m -Djava.library.path="$dynamodb_lib/lib" -cp "$dynamodb_lib/lib/*" \
    com.amazonaws.services.dynamodbv2.local.main.ServerRunner -inMemory -sharedDb -port "$port"
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
