# Programs that nobody should run, one a line: each must end, at once, within its bounds. The record is {"a":[1,"x",null]}.
# No end
def f: f; f
def f: f | f; f
def f: f, f; f
def f: 1 + f; f
def f: [f]; f
def f: {a: f}; f
def f: -f; f
def f: f as $x | $x; f
def f: if f then 1 else 2 end; f
def f: try f catch f; f
def f: f // f; f
def f: f and f; f
def f: reduce f as $x (0; 1); f
def f: foreach 1 as $x (f; 1); f
def f: label $a | f; f
def f: "\(f)"; f
def f: .[f]; f
def f: .[f:f]; f
def f: .a = f; f
def f: .a |= f; f
def f: .a += f; f
def f: path(f); f
def f($x): f($x + 1); f(0)
def f(g): f(g | g); f(.)
def f(g): f(g, g); f(1)
def f(g): g | f(g); f(.)
def f(g): def h(k): f(k); h(g | .); f(.)
def f: def g: f; g; f
def f: def g: g, f; g; f
def even: def odd: even; odd; even
until(false; .)
0 | until(false; . + 1)
while(true; .)
[while(true; .)]
0 | while(true; . + 1)
[0 | while(true; . + 1)]
repeat(.)
[repeat(.)]
repeat(1) | select(false)
recurse(.)
[recurse(.)]
last(recurse(.))
recurse(., .)
last(recurse(., .))
recurse([.])
[recurse([., .])]
[limit(1000000000; repeat(1))]
last(limit(1000000000000; repeat(1)))
first(repeat(1) | select(. == 2))
isempty(repeat(1) | select(. == 2))
any(repeat(1); . == 2)
all(repeat(1); . == 1)
nth(1000000000; repeat(1))
label $out | repeat(1) | if . == 2 then break $out else empty end
try repeat(error("x")) catch repeat(.)
def f: try error("x") catch f; f
[recurse(if . < 1e9 then . + 1 else empty end)]
"a" | until(length > 1e12; . + "a")
"" | until(false; ltrimstr("a"))
[1] | until(length == 0; . + [1])
{} | until(false; .[tojson] = 1)
[] | until(false; [.])
0 | recurse(if . == 1e12 then empty else . + 1 end) | empty
[range(infinite)]
range(infinite) | empty
[range(0; 1; 1e-300)]
range(0; 1; 1e-300) | empty
range(0; infinite; 1e-320) | empty
[range(1e12)]
last(range(1e12))
first(range(1e12) | select(. < 0))
reduce range(1e9) as $i (0; . + 1)
reduce range(1e12) as $i ([]; . + [$i])
reduce range(1e12) as $i (""; . + "x")
reduce range(1e12) as $i ({}; .["k\($i)"] = $i)
reduce range(1e12) as $i (.; .)
foreach range(1e12) as $i (0; . + $i) | empty
[foreach range(1e12) as $i (0; . + $i)]
foreach range(1e12) as $i (0; . + $i; empty)
last(foreach range(1e12) as $i (0; . + $i))
[range(1e6) | range(1e6)]
range(1e6) | range(1e6) | range(1e6) | empty
[range(0, 1, 2; 1e9, 1e10)]
limit(10; range(1e12) | select(false))
[range(10000)] | combinations | empty
[range(100)] | [., ., ., ., .] | combinations | empty
[combinations(20)]
[0, 1] | combinations(60) | empty
any(range(1e12); . < 0)
all(range(1e12); . >= 0)
reduce repeat(1) as $x (0; . + $x)
foreach repeat(1) as $x (0; . + $x; empty)
[.[]?, repeat(1)]
empty // repeat(1)
if repeat(1) then empty else . end
{a: repeat(1)} | empty
{(("a", "b") | repeat(.)): 1} | empty
"\(repeat(1))" | empty
[repeat(1)] as [$a] | $a
. as $x | repeat($x) | empty
repeat(1) as $x | empty
repeat(1) as [$x] | empty
.[repeat(0)]? | empty
.a = repeat(1) | empty
.a += repeat(1) | empty
.[range(1e9)] = 1
.[range(1e9)] |= 1
.[(range(1e9) | tostring)] = 1
del(.[range(1e9)])
delpaths([range(1e9) | [.]])
paths(repeat(true))
path(repeat(.)) | empty
[path(recurse(.a))]
path(recurse(.a)) | empty
getpath(["a", repeat("a")])
getpath([range(1e9) | tostring])
getpath([range(100000) | "a"])
[getpath([limit(100000; repeat("a"))])]
setpath([range(100000) | "a"]; 1)
setpath([range(100000)]; 1)
.a |= repeat(.) | empty
map_values(repeat(1))
with_entries(repeat(.))
[splits(repeat("a"))]
sort_by(repeat(1))
[1, 2] | sort_by(repeat(1))
[1, 2] | group_by(repeat(1))
[1, 2] | min_by(repeat(1))
[1, 2] | unique_by(repeat(1))
walk(repeat(.)) | empty
[1, [2]] | walk(repeat(.)) | empty
IN(repeat(1); 2)
INDEX(repeat(1); .)
tostream | repeat(.) | empty
fromstream(repeat([[0], 1]))
fromstream(repeat([[], 1])) | empty
1 | truncate_stream(repeat([[0, 1], 1])) | empty
ltrimstr(repeat("a")) | empty
test(repeat("a"))? | empty
# Large
"x" * 1e9
"x" * 1e18
"x" * infinite
1e9 * "x"
"x" * 1e6 * 1e6
[limit(30; "x" | recurse(. * 1000))]
"x" | recurse(. + .) | empty
last("x" | recurse(. + .))
[1] | recurse(. + .) | empty
[.] | recurse([., .]) | empty
reduce range(100) as $i (1; [., .])
reduce range(100) as $i (1; [., .]) | tojson
reduce range(100) as $i (1; [., .]) | length
reduce range(60) as $i (1; [., .]) | . == .
reduce range(60) as $i (1; [., .]) | sort
reduce range(60) as $i (1; [., .]) | flatten
reduce range(60) as $i (1; [., .]) | [..] | length
reduce range(60) as $i (1; [., .]) | [paths]
reduce range(60) as $i (1; [., .]) | [leaf_paths]
reduce range(60) as $i (1; [., .]) | walk(.)
reduce range(60) as $i (1; [., .]) | tostring | length
reduce range(60) as $i (1; [., .]) | contains(.)
reduce range(60) as $i (1; [., .]) | index(1)
reduce range(60) as $i (1; [., .]) | unique
reduce range(60) as $i (1; [., .]) | . - .
reduce range(60) as $i (1; [., .]) | tostream | empty
reduce range(60) as $i (1; [., .]) | @text | length
reduce range(60) as $i (1; [., .]) | "\(.)" | length
reduce range(60) as $i (1; [., .]) as $x | $x < $x
reduce range(60) as $i (1; {a: ., b: .})
reduce range(60) as $i (1; {a: ., b: .}) | . * .
reduce range(60) as $i (1; {a: ., b: .}) | tojson
reduce range(60) as $i (1; {a: ., b: .}) | walk(.)
reduce range(60) as $i (1; {a: ., b: .}) | (.. |= .)
reduce range(60) as $i (1; {a: ., b: .}) | [.] | group_by(.)
reduce range(1000000) as $i (0; [.])
reduce range(1000000) as $i (0; {a: .})
[limit(400; recurse([.]))] | last
reduce range(300) as $i (0; [.]) | tojson
reduce range(255) as $i (0; [.]) | tojson | fromjson | [.] | tojson | fromjson
"[" * 1000000 | fromjson
"[" * 1000000 + "]" * 1000000 | fromjson
"{\"a\":" * 1000000 | fromjson
("[" * 200 + "]" * 200) | fromjson | tojson | fromjson | tojson
"9" * 1000000 | tonumber
"9" * 1000000 | tonumber | . + 1
"1e999999" | tonumber
"0." + "9" * 1000000 | tonumber
"[" + "1," * 1000000 + "1]" | fromjson | length
tojson | until(length > 1e9; tojson)
"\"" | until(length > 1e9; tojson)
"<" | until(length > 1e9; @html)
"%" | until(length > 1e9; @uri)
"a" | until(length > 1e9; @base64)
"'" | until(length > 1e9; @sh)
["\""] | until(.[0] | length > 1e9; [@csv])
["\\"] | until(.[0] | length > 1e9; [@tsv])
"a" | until(length > 1e9; "\(.)\(.)")
"a" | until(length > 1e9; [., .] | join("b"))
"a" | until(length > 1e9; . / "" | join(.[0] * 100))
.[1e9] = 1
.[1e18] = 1
.[infinite] = 1
.[nan] = 1
.[-1e18] = 1
.[536870911] = 1
.[100000000] |= 1
.a[1e9].b[1e9] = 1
setpath([1e9]; 1)
setpath([0, 1e9]; 1)
getpath([1e18])
.[1e9:1e18] = [1]
null | .[1e9:] = [1]
[range(1000)] | .[:500] |= (. + . + . + .) | .[:500] |= (. + .)
[range(3000)] | .[] |= [range(3000)]
[range(1000)] | map([range(1000)]) | map([range(1000)])
[range(100000)] | map(tostring) | join(",") | . * 1000
[range(100000)] | [., ., ., .] | transpose | transpose | [., .] | flatten
[range(50000)] | sort_by(-.) | [.[] as $x | sort] | length
[range(20000)] | . - . | length
[range(20000)] as $a | [range(1e9)] - $a
[range(10000)] as $a | range(1e9) | $a | sort | empty
[range(10000)] as $a | range(1e9) | $a | reverse | empty
[range(10000)] as $a | range(1e9) | $a | index(9999) | empty
[range(10000)] as $a | range(1e9) | $a | contains([9999]) | empty
[range(10000)] as $a | range(1e9) | $a | add | empty
[range(10000)] as $a | range(1e9) | $a | map(.) | empty
[range(10000)] as $a | range(1e9) | $a | tojson | empty
[range(10000)] as $a | range(1e9) | $a == $a | empty
[range(10000)] as $a | range(1e9) | ($a | unique) | empty
("x" * 1000000) as $s | range(1e9) | $s | length | empty
("x" * 1000000) as $s | range(1e9) | $s | ascii_downcase | empty
("x" * 1000000) as $s | range(1e9) | $s | explode | empty
("x" * 1000000) as $s | range(1e9) | $s[500000:] | empty
("x" * 1000000) as $s | range(1e9) | $s | split("x") | empty
("x" * 1000000) as $s | range(1e9) | $s | index("y") | empty
("x" * 1000000) as $s | range(1e9) | $s | contains("y") | empty
("x" * 1000000) as $s | range(1e9) | $s == $s | empty
("x" * 1000000) as $s | range(1e9) | {($s): 1} | empty
("x" * 1000000) as $s | range(1e9) | $s | startswith($s) | empty
("x" * 1000000) as $s | range(1e9) | [$s] | tojson | empty
[range(200000) | {a: .}] | group_by(.a)
[range(200000) | {a: ., b: "x\(.)"}] | map(to_entries) | map(from_entries)
[range(100000)] | implode | explode | implode
[range(1114112)] | implode | @uri | @uri
[range(100000) | tostring] | map({(.): .}) | add
[range(3000) | tostring] | reduce .[] as $k ({}; . + {($k): .})
[range(3000) | tostring] | reduce .[] as $k ({}; {($k): .})
# Regular expressions
"a" * 30 + "b" | test("(a+)+$")
"a" * 100000 + "b" | test("(a|a)*$")
"a" * 100000 | [match("a"; "g")] | length
"a" * 100000 | gsub("a"; "bb")
"a" * 3000 | gsub(""; "b")
"a" * 100000 | [scan("a*?b")]
"a" * 5000 | [match("(a*)*(b|c)"; "g")]
"x" | test("(x{1000}){1000}")
"x" | test("((((x{100}){100}){100}){100})")
"x" | test("\\w{1000}")
"x" * 10000 | test("(x?){500}x{500}")
"x" | test("(" * 1000 + "x" + ")" * 1000)
"x" | test("x" * 100000)
"x" | test("[" * 1000)
"x" | test("(?<n>x)\\k<n>"; null)
range(1e9) | tostring as $re | "x" | test($re) | empty
range(1e9) | "\\w{\(. % 50)}\(.)" as $re | "x" | test($re) | empty
"a" | gsub("a"; "aa") | until(length > 1e9; gsub("a"; "aa"))
"a" * 1000 | gsub("(?<x>a)"; .x * 10000)
[range(10000) | "a"] | map(test("a{50}{50}"))
"a" * 100000 | [splits("a")] | length
"a" * 100000 | split("a"; "g") | length
"aaaa" | sub("(?<x>a)"; repeat("b")) | empty
"x" | test(".*.*.*.*.*.*.*.*=")
"a" * 20000 | test("(.*)(.*)(.*)(.*)(.*)[^a]")
"x" | [match(repeat("x"))] | empty
# Dates and numbers
1e18 | todate
-1e18 | todate
nan | todate
infinite | todate
1e308 | strftime("%Y")
0 | strftime("%Y" * 10000)
0 | strftime("x" * 100000000)
[1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9] | mktime
[9e99, 0, 0, 0, 0, 0, 0, 0] | mktime
[-1e9, -1e9, -1e9, -1e9, -1e9, -1e9, -1e9, -1e9] | todate
[1, 99, 1, 1, 1, 1, 99, 999] | strftime("%A %B %a %b %U %V %G %j")
"9" * 1000000 | strptime("%Y")
"9" * 1000000 | strptime("%s")
" " * 1000000 | strptime("%n" * 1000)
"x" | strptime("%" * 1000)
"x" | strptime("%c" * 10000)
range(1e9) | todate | empty
1 % 0
infinite | tojson
-9223372036854775808 % -1
5 % 1e-300
infinite % infinite
[nan] | sort | unique | group_by(.) | min_by(.)
[nan, nan] | index(nan)
nan as $x | [$x] - [$x]
[limit(100000; repeat(nan))] | sort
[.[]?] | .[nan]
[1, 2] | .[nan:infinite]
[1, 2] | .[-infinite:infinite]
"abc" | .[1e18:-1e18]
[range(10)] | .[infinite]
[range(10)] | nth(-1e18)
[1] | implode
[-1] | implode
[1e18] | implode
[nan] | implode
[55296] | implode
["a"] | implode
[1e18] | has(1e18)
1e1000
-1e1000 | tostring
[1e-1000] | tojson
pow(1e300; 1e300)
ldexp(1; 1e308)
[1, 2] | flatten(1e18)
[[[]]] | flatten(infinite)
[limit(1e18; 1, 2)]
[limit(-1e18; 1, 2)]
[limit(nan; 1, 2)]
# What is not there
env
$ENV
env.AWS_SECRET_ACCESS_KEY
$ENV.AWS_SECRET_ACCESS_KEY
input
[inputs]
first(inputs)
debug
debug("x")
stderr
input_filename
input_line_number
halt
halt_error
halt_error(1)
now
localtime
0 | strflocaltime("%Y")
$__loc__
{$__loc__}
$__prog_args
import "a" as a; .
include "a"; .
import "/etc/passwd" as $x; $x
modulemeta
get_search_list
a::b
@foo
@foo "x"
_match(1; 2; 3)
_sort_by(1)
splits
builtins
getpath
error(1; 2)
test("(")
test("a(?=b)")
sub("(?<!a)b"; "c")
# Errors that are caught, and labels
try error catch .
try error(null) catch .
try error({a: repeat(1)}) catch .
[range(1e9) | try error catch .]
def f: try error("\(.)") catch (. + . | f); "x" | f
try (try error("x") catch error("y")) catch repeat(.)
label $a | label $b | repeat(1) | if . == 2 then break $a else break $b end
label $a | def f: break $a; repeat(1) | select(. == 2) | f
[label $a | range(1e9) | if . > 1e8 then break $a else empty end]
def f: label $x | f, break $x; f
break $x
label $x | 1; break $x
.a.b.c.d |= error
try (.a |= error("x")) catch until(false; .)
(.. | select(false)) |= 1
.. |= [.]
.. = .
.. |= [., .]
[..] | .. |= [.]
reduce (.., ..) as $x (.; .a = .)
.a = . | .a = . | .a = . | .a = . | until(false; .a = .)
to_entries | until(false; to_entries)
[to_entries] | until(false; tojson | [.])
{} | until(false; {a: ., b: .})
. as [$a, {b: $c}] | until(false; .)
. as [[[[[[[[$x]]]]]]]] | repeat($x) | empty
. as {a: {(repeat("b")): $x}} | $x
