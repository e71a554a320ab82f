# Sourced after lib.sh by the runs that have the Java KCL in them: its consumer, a DynamoDB server, and our S3.

# The versions of the Java KCL: the newest 2.x that the registry serves, and the newest 3.x.
kcl2=${STANDPIPE_KCL2:-2.7.2}
kcl3=${STANDPIPE_KCL3:-3.5.1}

# install_kcl VERSION...: the jars into the cache, and the consumer compiled against them. Sets $kcl, with a folder each.
install_kcl() {
  kcl=$peers/kcl
  local version source classes
  source=$(sha256sum tests/peers/consumer/Consumer.java | cut -c1-16)
  for version in "$@"; do
    if [ ! -f "$kcl/$version/jars" ]; then
      mkdir -p "$kcl/$version"
      retry mvn -q -B -U -f tests/peers/consumer/pom.xml -Dkcl="$version" dependency:copy-dependencies \
        -DoutputDirectory="$kcl/$version/lib"
      touch "$kcl/$version/jars"
    fi
    [ -f "$kcl/$version/lib/amazon-kinesis-client-$version.jar" ] || { echo "no KCL $version in the cache" >&2; return 1; }
    classes=$kcl/$version/classes
    if [ "$(cat "$classes/source" 2>/dev/null)" != "$source" ]; then
      rm -rf "$classes"
      javac -cp "$kcl/$version/lib/*" -d "$classes" tests/peers/consumer/Consumer.java
      echo "$source" >"$classes/source"
    fi
  done
}

# Which DynamoDB: `moto`, which is installed in a minute and serves one request at a time, or `dynoxide`, which is fast
# and takes minutes to build. $STANDPIPE_PEERS_DYNAMODB names another server that runs already.
engine=${STANDPIPE_PEERS_ENGINE:-moto}
start_moto() { start_dynamodb; }

# The program of dynoxide, a DynamoDB server that others wrote.
install_dynoxide() {
  local version=3.2.0
  dynoxide=$peers/dynoxide-$version/bin/dynoxide
  [ -x "$dynoxide" ] && return
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_TARGET_DIR=$peers/dynoxide-build retry cargo install \
    dynoxide-rs --version "=$version" --locked --quiet --debug --no-default-features \
    --features native-sqlite,http-server,cli --root "$peers/dynoxide-$version"
  rm -rf "$peers/dynoxide-build"
}

start_dynoxide() {
  if [ -n "${STANDPIPE_PEERS_DYNAMODB:-}" ]; then
    dynamodb=$STANDPIPE_PEERS_DYNAMODB
    return
  fi
  install_dynoxide
  local port
  port=$(free_port)
  start dynamodb "$dynoxide" --host 127.0.0.1 --port "$port"
  dynamodb=http://127.0.0.1:$port
  wait_for dynamodb "$dynamodb"
}

# Our own S3, whose objects are plain files. Sets $s3 and $bucket, the folder of the bucket `lake`.
start_our_s3() {
  start s3 "$standpipe" emulator --listen 127.0.0.1:0 --data "$work/data" --bucket lake
  for _ in $(seq 600); do
    grep -q '^ready$' "$work/s3.log" && break
    sleep 0.1
  done
  s3=$(sed -n 's/^export AWS_ENDPOINT_URL[A-Z_]*=//p' "$work/s3.log" | head -1)
  [ -n "$s3" ] || { echo "our S3 does not start" >&2; tail -20 "$work/s3.log" >&2; return 1; }
  bucket=$work/data/s3/lake
}

# The program under test: $STANDPIPE_BIN, or what this checkout builds. A copy, since a build may replace it meanwhile.
build_standpipe() {
  standpipe=$work/standpipe
  if [ -z "${STANDPIPE_BIN:-}${STANDPIPE_BUILT:-}" ]; then
    cargo build --quiet --locked --workspace --bins
  fi
  cp "${STANDPIPE_BIN:-${STANDPIPE_BUILT:-target/debug/standpipe}}" "$standpipe"
}

# play SCRIPT [arguments]: everything up, then the script with what it has to know.
play() {
  (cd tests/peers/python && python3 -B -m unittest -q test_check)
  build_standpipe
  install_kcl "$kcl2" "$kcl3"
  local at=$SECONDS
  "start_$engine"
  start_kinesis
  start_our_s3
  export PEERS_KINESIS=$kinesis PEERS_DYNAMODB=$dynamodb PEERS_S3=$s3 PEERS_BUCKET=$bucket PEERS_KCL=$kcl
  export PEERS_KCL2=$kcl2 PEERS_KCL3=$kcl3 PEERS_STANDPIPE=$standpipe PEERS_WORK=$work
  echo "servers that others wrote: ${STANDPIPE_PEERS_DYNAMODB:-$engine}, kinesis-local; up in $((SECONDS - at)) s"
  at=$SECONDS
  python3 -B "tests/peers/python/$1" "${@:2}" &
  local player=$!
  # It ends its workers before it ends.
  trap 'kill -TERM $player; wait $player; exit 130' INT TERM
  wait "$player"
  echo "$1: $((SECONDS - at)) s"
}
