//! `read: { enhanced_fan_out: ... }`: a consumer is registered, used, and left where it is.

use super::*;

#[test]
fn a_consumer_that_was_registered_once_is_used_from_then_on() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    let emulator = Emulator::start(dir);
    let mut expected: Vec<String> = Vec::new();
    let round = |read: &str, new: &[String]| {
        assert!(put(&emulator, dir, new).status.success());
        let config = config("\"off\"").replace("read: polling", &format!("read: {read}"));
        std::fs::write(dir.join("standpipe.yaml"), config).expect("written");
        let run = emulator.standpipe(dir).args(["run", "-c", "standpipe.yaml", "--until", "caught-up"]).output();
        let run = run.expect("it ends");
        let log = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{log}");
        let ways = ["consumer registered", "read by enhanced fan-out", "read by polling"];
        ways.map(|way| log.contains(way))
    };
    let lines = lines();
    for (read, new, ways) in [
        ("auto", &lines[..500], [false, false, true]),
        ("{ enhanced_fan_out: { consumer: standpipe } }", &lines[500..1000], [true, true, false]),
        ("auto", &lines[1000..1500], [false, true, false]),
        ("polling", &lines[1500..], [false, false, true]),
    ] {
        assert_eq!(round(read, new), ways, "{read}");
        expected.extend_from_slice(new);
        expected.sort();
        assert!(delivered(dir) == expected, "{read}: every line once");
    }
}
