//! Records of a few shapes, made up: the installed program measures without a file. The same in every run.

use bytes::Bytes;

/// Bytes of the records of one shape, about. Tests look at what is made of them, not at what it costs.
const SHAPE_BYTES: usize = if cfg!(test) { 64 << 10 } else { 4 << 20 };

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A flat JSON object of an order.
    Orders,
    /// A nested JSON object of an event, with lists and members that only some have.
    Events,
    /// A line of a web server, in the combined format.
    Web,
    /// A line of a web server, in the common format.
    Common,
    /// A message of RFC 3164.
    Syslog3164,
    /// A message of RFC 5424.
    Syslog5424,
    /// The values of an order.
    Csv,
    /// An XML document of an order.
    Xml,
}

impl Shape {
    /// The name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Events => "events",
            Self::Web | Self::Common => "web log",
            Self::Syslog3164 | Self::Syslog5424 => "syslog",
            Self::Csv => "csv",
            Self::Xml => "xml",
        }
    }

    /// Its records.
    pub fn records(self) -> Vec<Bytes> {
        let mut dice = Dice(self as u64 + 1);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < SHAPE_BYTES {
            let record = self.record(records.len() as u64, &mut dice);
            bytes += record.len();
            records.push(record.into());
        }
        records
    }

    fn record(self, number: u64, dice: &mut Dice) -> String {
        match self {
            Self::Orders => order(number, dice),
            Self::Events => event(number, dice),
            Self::Web => format!("{} \"{}\" \"{}\"", request(dice), dice.one(&PAGES), dice.one(&AGENTS)),
            Self::Common => request(dice),
            Self::Syslog3164 => {
                let (priority, second, pid) = (dice.below(190), dice.below(60), dice.below(60_000));
                let text = message(dice);
                format!(
                    "<{priority}>Jan 31 12:{:02}:{second:02} {} {}[{pid}]: {text}",
                    number / 500 % 60,
                    host(dice),
                    dice.one(&PROGRAMS)
                )
            }
            Self::Syslog5424 => {
                let (priority, second, pid) = (dice.below(190), dice.below(60), dice.below(60_000));
                let (host, program, text) = (host(dice), dice.one(&PROGRAMS), message(dice));
                let data = format!("[origin@32473 unit=\"{program}.service\" try=\"{}\"]", dice.below(5));
                format!(
                    "<{priority}>1 2026-01-31T12:00:{second:02}.123Z {host} {program} {pid} ID{} {data} {text}",
                    dice.below(90)
                )
            }
            Self::Csv => {
                let (customer, country) = (dice.below(50_000), dice.one(&COUNTRIES));
                let (status, cents) = (dice.one(&STATES), dice.below(100_000));
                format!(
                    "{number},{customer},{country},{status},{}.{:02},\"{}\"",
                    cents / 100,
                    cents % 100,
                    message(dice)
                )
            }
            Self::Xml => {
                let (customer, country) = (dice.below(50_000), dice.one(&COUNTRIES));
                let lines: String = (0..=dice.below(4))
                    .map(|line| format!("<line sku=\"S-{}\"><count>{}</count></line>", dice.below(900), line + 1))
                    .collect();
                format!(
                    "<order id=\"{number}\"><customer><id>{customer}</id><country>{country}</country></customer><lines>{lines}</lines></order>"
                )
            }
        }
    }
}

/// Names of the columns of [`Shape::Csv`].
pub const CSV_COLUMNS: [&str; 6] = ["id", "customer", "country", "status", "amount", "note"];

const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "GB", "IN", "BR", "JP", "PL"];
const STATES: [&str; 5] = ["new", "paid", "packed", "sent", "refunded"];
const HOSTS: [&str; 6] = ["web-01", "web-02", "web-03", "db-01", "queue-01", "batch-07"];
const PROGRAMS: [&str; 5] = ["sshd", "cron", "nginx", "kernel", "payments"];
const KINDS: [&str; 5] = ["PushEvent", "IssuesEvent", "WatchEvent", "ForkEvent", "ReleaseEvent"];
const PAGES: [&str; 5] = [
    "https://shop.example/",
    "https://shop.example/search?q=shoes",
    "-",
    "https://news.example/a/17",
    "https://shop.example/cart",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "curl/8.11.0",
    "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://bot.example/)",
];
const WORDS: [&str; 16] = [
    "order",
    "refund",
    "cache",
    "timeout",
    "retry",
    "customer",
    "accepted",
    "worker",
    "started",
    "for",
    "after",
    "with",
    "slow",
    "query",
    "connection",
    "closed",
];

fn order(number: u64, dice: &mut Dice) -> String {
    let (customer, cents, items) = (dice.below(50_000), dice.below(100_000), dice.below(9) + 1);
    let (country, status, agent) = (dice.one(&COUNTRIES), dice.one(&STATES), dice.one(&AGENTS));
    let coupon = if dice.below(4) == 0 { format!("\"SAVE{}\"", dice.below(50)) } else { "null".to_owned() };
    format!(
        r#"{{"id":{},"customer":{customer},"country":"{country}","status":"{status}","amount":{}.{:02},"items":{items},"coupon":{coupon},"gift":{},"placed_at":"2026-01-31T12:{:02}:{:02}.{:03}Z","agent":"{agent}"}}"#,
        1_000_000 + number,
        cents / 100,
        cents % 100,
        dice.below(10) == 0,
        number / 60 % 60,
        number % 60,
        dice.below(1000),
    )
}

fn event(number: u64, dice: &mut Dice) -> String {
    let (actor, repository) = (dice.below(20_000), dice.below(5_000));
    let kind = dice.one(&KINDS);
    let commits: Vec<String> = (0..dice.below(5))
        .map(|_| {
            let (sha, text, author) = (dice.hex(40), message(dice), dice.below(20_000));
            format!(r#"{{"sha":"{sha}","message":"{text}","author":{{"name":"user {author}","email":"user{author}@mail.example"}},"distinct":true}}"#)
        })
        .collect();
    let payload = match kind {
        "PushEvent" => format!(
            r#"{{"push_id":{},"size":{},"ref":"refs/heads/main","commits":[{}]}}"#,
            dice.below(1 << 40),
            commits.len(),
            commits.join(",")
        ),
        "IssuesEvent" => format!(
            r#"{{"action":"opened","issue":{{"number":{},"title":"{}","labels":[{{"name":"bug"}}],"comments":{}}}}}"#,
            dice.below(9_000),
            message(dice),
            dice.below(30)
        ),
        _ => r#"{"action":"started"}"#.to_owned(),
    };
    format!(
        r#"{{"id":"{}","type":"{kind}","actor":{{"id":{actor},"login":"user-{actor}","url":"https://api.example/users/user-{actor}"}},"repo":{{"id":{repository},"name":"group/project-{repository}","url":"https://api.example/repos/group/project-{repository}"}},"payload":{payload},"public":true,"created_at":"2026-01-31T12:{:02}:{:02}Z"}}"#,
        20_000_000_000 + number,
        number / 60 % 60,
        number % 60,
    )
}

fn request(dice: &mut Dice) -> String {
    let (a, b, c) = (dice.below(223) + 1, dice.below(256), dice.below(256));
    let (minute, second, item) = (dice.below(60), dice.below(60), dice.below(9_000));
    let (status, bytes) = (dice.one(&["200", "200", "200", "304", "404", "500"]), dice.below(60_000));
    format!(
        "{a}.{b}.{c}.9 - - [31/Jan/2026:12:{minute:02}:{second:02} +0000] \"GET /items/{item}?ref=list HTTP/1.1\" {status} {bytes}"
    )
}

fn host(dice: &mut Dice) -> &'static str {
    dice.one(&HOSTS)
}

fn message(dice: &mut Dice) -> String {
    let words: Vec<&str> = (0..dice.below(8) + 4).map(|_| dice.one(&WORDS)).collect();
    format!("{} {}", words.join(" "), dice.below(100_000))
}

/// Numbers that look random: splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits.div_ceil(16)).map(|_| format!("{:016x}", self.next())).collect::<String>()[..digits].to_owned()
    }
}
