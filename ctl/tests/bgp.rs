//! `bgp routes`: the real binary against an agent that always says the same. `bgp/transcript.txt` is what was said;
//! `UPDATE_GOLDEN=1 cargo test` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use support::{BINARY, Run};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bgp")
}

fn canned(name: &str) -> String {
    std::fs::read_to_string(directory().join(name)).unwrap()
}

/// The answer to a request target.
fn answer(target: &str) -> (u16, String) {
    let unknown = r#"{"error": "no peer 'tor'; peers are Mesh_10_0_0_3 (10.0.0.3)"}"#;
    let nothing = r#"{"node": "n1", "asked": "fd00::/64"}"#;
    let pages = BTreeMap::from([
        ("/v1/bgp/routes?view=table", canned("routes.json")),
        ("/v1/bgp/routes?view=table&from=1.2", canned("routes-2.json")),
        ("/v1/bgp/routes?view=received&peer=10.0.0.3", canned("routes-2.json")),
        ("/v1/bgp/routes?view=sent&peer=Mesh_10_0_0_3", r#"{"routes": []}"#.to_owned()),
        ("/v1/bgp/routes?view=best", canned("routes-2.json")),
        ("/v1/bgp/explain?prefix=10.64.2.7/32", canned("explain.json")),
        ("/v1/bgp/explain?prefix=10.64.2.7/32&peer=10.0.0.3", canned("explain.json")),
        ("/v1/bgp/explain?prefix=fd00::/64", nothing.to_owned()),
    ]);
    match pages.get(target) {
        Some(page) => (200, page.clone()),
        None => (404, unknown.to_owned()),
    }
}

/// Serves until the test ends; remembers what it did not know.
fn serve(socket: &Path) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let unknown = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&unknown);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                request.extend(octet);
            }
            let target = String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned();
            let (status, body) = answer(&target);
            if status != 200 {
                told.lock().unwrap().push(target);
            }
            stream.write_all(format!("HTTP/1.0 {status} x\r\n\r\n{body}").as_bytes()).unwrap();
        }
    });
    unknown
}

fn run(socket: &Path, args: &[&str]) -> Run {
    let mut command = std::process::Command::new(BINARY);
    let output = command.args(args).env_clear().env("TORTIE_SOCKET", socket).output().unwrap();
    Run {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}

#[test]
fn routes_and_their_reasons_are_told() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("tortie.sock");
    let unknown = serve(&socket);
    let expected = canned("transcript.txt");
    let mut actual = String::new();
    for line in expected.lines().filter(|line| line.starts_with("$ ")) {
        let args: Vec<&str> = line.split(' ').skip(2).collect();
        let Run { stdout, stderr, code } = run(&socket, &args);
        actual.push_str(&format!("{line}\n{stdout}"));
        for said in stderr.lines() {
            actual.push_str(format!("! {said}").trim_end());
            actual.push('\n');
        }
        if code != 0 {
            actual.push_str(&format!("[{code}]\n"));
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(directory().join("transcript.txt"), &actual).unwrap();
    } else {
        let line = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
        assert_eq!(actual.lines().nth(line), expected.lines().nth(line), "line {}", line + 1);
    }
    assert_eq!(*unknown.lock().unwrap(), ["/v1/bgp/routes?view=table&peer=tor"]);
}
