def map(f): [.[] | f];
def map_values(f): .[] |= f;
def recurse(f; cond): def r: recurse(f | select(cond)); r;
def del(f): delpaths([path(f)]);
def paths: path(..) | select(length > 0);
def paths(node): . as $root | paths | select(. as $p | $root | getpath($p) | node);
def with_entries(f): to_entries | map(f) | from_entries;
def walk(f): def w: if type == "object" then map_values(w) elif type == "array" then map(w) else . end | f; w;
def sort_by(f): _sort_by(map([f]));
def group_by(f): _group_by(map([f]));
def unique_by(f): group_by(f) | map(.[0]);
def min_by(f): _min_by(map([f]));
def max_by(f): _max_by(map([f]));
def any(g; cond): isempty(first(g | cond or empty)) | not;
def all(g; cond): isempty(first(g | cond and empty));
def any(cond): any(.[]; cond);
def all(cond): all(.[]; cond);
def any: any(.[]; .);
def all: all(.[]; .);
def nth($n; f): if $n < 0 then error("nth doesn't support negative indices") else last(limit($n + 1; f)) end;
def first: .[0];
def last: .[-1];
def nth($n): .[$n];
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i) | .[0];
def rindex($i): indices($i) | .[-1:][0];
def values: select(. != null);
def nulls: select(. == null);
def booleans: select(type == "boolean");
def numbers: select(type == "number");
def strings: select(type == "string");
def arrays: select(type == "array");
def objects: select(type == "object");
def iterables: select(type == "array" or type == "object");
def scalars: select(type != "array" and type != "object");
def leaf_paths: paths(scalars);
def finites: select(isfinite);
def normals: select(isnormal);
def combinations: if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $rest | [$x] + $rest end;
def combinations($n): . as $all | [range($n) | $all] | combinations;
def match(re; flags): _match(re; flags; false) | .[];
def match($re): if $re | type == "array" then match($re[0]; $re[1]) else match($re; null) end;
def test(re; flags): _match(re; flags; true);
def test($re): if $re | type == "array" then test($re[0]; $re[1]) else test($re; null) end;
def _captures: reduce (.captures[] | select(.name != null)) as $c ({}; .[$c.name] = $c.string);
def capture(re; flags): match(re; flags) | _captures;
def capture($re): match($re) | _captures;
def scan($re; flags): match($re; "g" + flags) | if .captures | length > 0 then [.captures[].string] else .string end;
def scan($re): scan($re; null);
def splits($re; flags): . as $in | [0, (match($re; "g" + flags) | .offset, .offset + .length), length]
  | range(0; length; 2) as $i | $in[.[$i]:.[$i + 1]];
def splits($re): splits($re; null);
def split($re; flags): [splits($re; flags)];
def _sub($matches; f): . as $in | def r($i; $from):
    if $i == ($matches | length) then $in[$from:]
    else $matches[$i] as $m | $in[$from:$m.offset] + ($m | _captures | f) + r($i + 1; $m.offset + $m.length) end;
  r(0; 0);
def sub($re; f; $flags): _sub([match($re; $flags)]; f);
def sub($re; f): sub($re; f; null);
def gsub($re; f; $flags): sub($re; f; $flags + "g");
def gsub($re; f): sub($re; f; "g");
def fromdateiso8601: strptime("%Y-%m-%dT%H:%M:%SZ") | mktime;
def todateiso8601: strftime("%Y-%m-%dT%H:%M:%SZ");
def fromdate: fromdateiso8601;
def todate: todateiso8601;
def date: todate;
def dateadd(unit; n): . + n;
def datesub(unit; n): . - n;
def tostream:
  def events($path):
    if (type == "array" or type == "object") and length > 0
    then . as $in | keys_unsorted as $keys | ($keys[] | . as $k | $in[$k] | events($path + [$k])), [$path + [$keys[-1]]]
    else [$path, .] end;
  events([]);
def fromstream(f): foreach f as $event ({done: true};
  ($event[0] | length) as $depth
  | if .done then {at: null} else . end
  | if $event | length == 2
    then .at |= setpath($event[0]; $event[1]) | .done = ($depth == 0)
    else .done = ($depth == 1) end;
  select(.done) | .at);
def truncate_stream(f): . as $n | null | f | . as $e | if ($e[0] | length) > $n then setpath([0]; $e[0][$n:]) else empty end;
def INDEX(f; key): reduce f as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);
def IN(s): any(s == .; .);
def IN(f; s): any(f == s; .);
def JOIN($idx; key): [.[] | [., $idx[key]]];
def JOIN($idx; f; key): f | [., $idx[key]];
def JOIN($idx; f; key; join): f | [., $idx[key]] | join;
def ascii: [.] | implode;
