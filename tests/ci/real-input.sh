# Sourced with $work, $python and $standpipe set, in the root of the checkout: the real records, the configs that deliver
# them, and the comparison. The data lies beside the checkout, in shared/data; STANDPIPE_DATA says where else.
data=${STANDPIPE_DATA:-../shared/data}
names=(web-log github-events flights)
for name in "${names[@]}"; do
  [ -f "$data/$name.jsonl.zst" ] || { echo "$data/$name.jsonl.zst is not there" >&2; exit 1; }
done

unpack() { # unpack NAME [LINES]: into $work/NAME.jsonl
  "$python" - "$data/$1.jsonl.zst" "$work/$1.jsonl" "${2:-}" <<'PY'
import io, itertools, sys, zstandard
source, target, lines = sys.argv[1:]
with open(source, "rb") as packed, open(target, "wb") as plain:
    stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True))
    plain.writelines(itertools.islice(stream, int(lines)) if lines else stream)
PY
}

config() { # config KIND: one pipeline a stream; KIND is lines (gzip) or parquet (with the columns that `infer` prints)
  printf 'version: 1\nhttp: "off"\nworker: { memory: 256MiB, shutdown_grace: 60s }\npipelines:\n'
  for name in "${names[@]}"; do
    cat <<YAML
  $1-$name:
    lease: { table: standpipe-$1-$name, failover: 5s }
    source: { kinesis: { stream: $name, start: trim_horizon, poll: 200ms } }
    destinations:
      - s3:
          bucket: lake
          prefix: "$1/$name/"
          error_prefix: "$1-errors/$name/!{firehose:error-output-type}/"
YAML
    case $1 in
    lines) printf '          compression: gzip\n          buffer: { size: 4MiB, interval: 2s }\n' ;;
    parquet)
      printf '          format: { parquet: {} }\n          buffer: { size: 64MiB, interval: 2s }\n'
      printf '          schema:\n            columns: |-\n'
      "$standpipe" infer --rows 0 "$work/$name.jsonl" | sed 's/^/              /'
      ;;
    esac
  done
}

deliver() { # deliver KIND SECONDS: everything that is in the streams, within so many seconds
  local begin=$SECONDS
  config "$1" >"$work/$1.yaml"
  "$standpipe" check -c "$work/$1.yaml"
  if ! timeout "$2" "$standpipe" run -c "$work/$1.yaml" --until caught-up 2>"$work/$1.log"; then
    tail -20 "$work/$1.log" >&2
    exit 1
  fi
  echo "--- $1: delivered in $((SECONDS - begin)) s"
}

compare() { # compare KIND ROOT: the objects are files below ROOT
  if [ -d "$2/$1-errors" ]; then
    echo "error objects, and every record is good" >&2
    find "$2/$1-errors" -type f | head -3 >&2
    exit 1
  fi
  for name in "${names[@]}"; do
    echo "--- $1: $name"
    "$python" tests/readers/read_back.py "$2/$1/$name" "$work/$name.jsonl"
  done
}
