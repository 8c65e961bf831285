//! The binary itself: two daemons on loopback, their status, changes of the file, signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon with its files.
struct Daemon {
    directory: TempDir,
    child: Option<Child>,
}

impl Daemon {
    fn new() -> Daemon {
        Daemon { directory: tempfile::tempdir().unwrap(), child: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, text: &str) {
        // In one step, so that no half of it is read.
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path("bgpd.yaml")).unwrap();
    }

    fn command(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie-bgpd"));
        command.args(words).arg("--socket").arg(self.path("socket")).output().unwrap()
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tortie-bgpd"))
            .args(["--config".as_ref(), self.path("bgpd.yaml").as_os_str()])
            .args(["--socket".as_ref(), self.path("socket").as_os_str()])
            .stderr(log)
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until what a question is answered with holds `text`.
    fn until(&self, question: &str, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let output = self.command(&[question]);
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            if answer.contains(text) {
                return answer;
            }
            assert!(Instant::now() < end, "{question} without {text}: {output:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_log(&self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "no {text} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Free just now; nobody else on the machine takes it from the kernel's range in the next moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two daemons, the first dialling the second, with one prefix each.
fn pair() -> (Daemon, Daemon, String) {
    let (mut ours, mut theirs) = (Daemon::new(), Daemon::new());
    let port = free_port();
    let text = format!(
        "as: 64512\nrouter-id: 10.0.0.1\nlisten: []\noriginate: [172.16.1.0/26]\npeers:\n\
         - {{name: other, address: 127.0.0.2, port: {port}, as: 65000, local-address: 127.0.0.1, connect-retry: 1}}\n"
    );
    ours.write(&text);
    theirs.write(&format!(
        "as: 65000\nrouter-id: 10.0.0.2\nlisten: ['127.0.0.2:{port}']\noriginate: [192.0.2.0/24]\npeers:\n\
         - {{address: 127.0.0.1, as: 64512, passive: true}}\n"
    ));
    theirs.start();
    ours.start();
    (ours, theirs, text)
}

#[test]
fn two_daemons_exchange_routes_and_tell() {
    let (ours, theirs, _) = pair();
    let routes = ours.until("routes", "192.0.2.0/24");
    assert!(routes.contains("172.16.1.0/26  -") && routes.contains("127.0.0.2"), "{routes}");
    theirs.until("routes", "172.16.1.0/26");
    let status = ours.until("status", "Established");
    assert!(status.starts_with("AS 64512, router id 10.0.0.1\nPEER"), "{status}");
    let row: Vec<&str> = status.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[4], row[5]), ("other", "65000", "1", "1"), "{status}");
    let json = ours.command(&["status", "--json"]);
    assert!(String::from_utf8_lossy(&json.stdout).contains(r#""state":"Established""#));

    let say = |words: &[&str]| {
        let output = ours.command(&[&["routes"], words].concat());
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        texts.concat().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let best = say(&["--best", "--json"]);
    assert!(best.contains(r#""internal":false,"local_pref":100"#), "{best}");
    let received = say(&["--peer", "127.0.0.2", "--in"]);
    assert!(received.ends_with("192.0.2.0/24 127.0.0.2 - - 65000 - other best -"), "{received}");
    let sent = say(&["--peer", "other", "--out"]);
    assert!(sent.ends_with("172.16.1.0/26 127.0.0.1 - - 64512 - - announced -"), "{sent}");
    let why = say(&["--explain", "192.0.2.7"]);
    assert!(why.starts_with("192.0.2.0/24: not originated PREFIX"), "{why}");
    assert!(why.ends_with("PEER ANNOUNCED REASON other no it came from this peer"), "{why}");
    let unknown = say(&["--peer", "x"]);
    assert!(unknown.starts_with("tortie-bgpd: no peer 'x'; peers are other (127.0.0.2:"), "{unknown}");
}

#[test]
fn a_changed_file_counts_and_a_bad_one_does_not() {
    let (ours, theirs, text) = pair();
    theirs.until("routes", "172.16.1.0/26");
    ours.write(&text.replace("172.16.1.0/26", "172.16.2.0/26"));
    theirs.until("routes", "172.16.2.0/26");
    ours.write(&text.replace("as: 65000", "as: many"));
    ours.until_log("the configuration stays as it was: ");
    assert!(ours.log().contains("bgpd.yaml: peers[0]"), "{}", ours.log());
    assert!(ours.until("status", "Established").contains("65000"));
    // By hand as well, also when the file is the same.
    ours.write(&text);
    theirs.until("routes", "172.16.1.0/26");
    let reads = || ours.log().matches("configuration read").count();
    let before = reads();
    ours.signal("HUP");
    let end = Instant::now() + DEADLINE;
    while reads() == before {
        assert!(Instant::now() < end, "{}", ours.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stop_is_clean_and_the_next_start_is_a_restart() {
    let (mut ours, theirs, _) = pair();
    theirs.until("routes", "172.16.1.0/26");
    ours.signal("TERM");
    assert!(ours.child.take().unwrap().wait().unwrap().success(), "{}", ours.log());
    theirs.until("status", "connection closed by peer");
    assert!(ours.log().contains("restarted=false") && !ours.log().contains("restarted=true"));
    assert!(theirs.until("routes", "172.16.1.0/26").contains("127.0.0.1"), "kept for the restart time");
    ours.start();
    ours.until("routes", "192.0.2.0/24");
    assert!(ours.log().contains("restarted=true"), "{}", ours.log());
}

#[test]
fn a_check_tells_good_from_bad() {
    let daemon = Daemon::new();
    let file = daemon.path("bgpd.yaml").display().to_string();
    daemon.write("as: 1\nrouter-id: 10.0.0.1\n");
    let good = daemon.command(&["--check", "--config", &file]);
    assert!(good.status.success());
    assert_eq!(String::from_utf8_lossy(&good.stdout), format!("{file}: good, 0 peers\n"));
    daemon.write("as: 0\nrouter-id: 10.0.0.1\n");
    let bad = daemon.command(&["--check", "--config", &file]);
    assert!(!bad.status.success());
    assert_eq!(
        String::from_utf8_lossy(&bad.stderr),
        format!("tortie-bgpd: {file}: as: 0: AS 0 is reserved\n")
    );
    let nobody = daemon.command(&["status"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is it running?"));
}
