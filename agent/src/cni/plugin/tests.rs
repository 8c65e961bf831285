use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde_json::json;

use super::*;

/// An agent that takes one request and gives one answer; joined, it says what it was asked.
struct FakeAgent {
    directory: tempfile::TempDir,
    thread: JoinHandle<(String, Value)>,
}

impl FakeAgent {
    fn answering(status: &'static str, body: String) -> FakeAgent {
        FakeAgent::at(tempfile::tempdir().unwrap(), status, body)
    }

    fn at(directory: tempfile::TempDir, status: &'static str, body: String) -> FakeAgent {
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = String::from_utf8(request).unwrap();
            let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
            let mut content = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut content).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
            let content = serde_json::from_slice(&content).unwrap_or(Value::Null);
            (head.lines().next().unwrap().to_owned(), content)
        });
        FakeAgent { directory, thread }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    fn asked(self) -> (String, Value) {
        self.thread.join().unwrap()
    }
}

fn attached() -> String {
    json!({
        "hostInterface": "cali0123456789a", "hostMac": "ee:ee:ee:ee:ee:ee", "mac": "02:00:00:00:00:01", "mtu": 1480,
        "addresses": ["10.65.3.1/32", "fd00:65::1/128"],
    })
    .to_string()
}

fn conf(version: &str, socket: &Path) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "tortie-cni", "socket": socket, "unheard": {"of": 1}})
}

fn call(command: &str, conf: &Value, more: &[(&str, &str)]) -> Output {
    let mut variables = BTreeMap::from([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "0123456789abcdef"),
        ("CNI_NETNS", "/run/netns/p"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]);
    variables.extend(more.iter().copied());
    run(
        &|name| variables.get(name).map(|value| (*value).to_owned()),
        &conf.to_string(),
        Duration::from_millis(200),
    )
}

#[test]
fn results_have_the_shape_of_each_version() {
    for (version, golden) in [
        ("0.3.1", include_str!("../golden/add-0.3.1.json")),
        ("0.4.0", include_str!("../golden/add-0.4.0.json")),
        ("1.0.0", include_str!("../golden/add-1.0.0.json")),
        ("1.1.0", include_str!("../golden/add-1.1.0.json")),
    ] {
        let agent = FakeAgent::answering("200 OK", attached());
        let output = call("ADD", &conf(version, &agent.socket()), &[]);
        assert_eq!(output, Output { stdout: golden.to_owned(), failed: false }, "{version}");
        assert_eq!(agent.asked().0, "POST /v1/workload/attach HTTP/1.1");
    }
}

#[test]
fn versions_are_listed_without_a_configuration() {
    let output = run(&|name| (name == "CNI_COMMAND").then(|| "VERSION".to_owned()), "", Duration::ZERO);
    assert_eq!(output, Output { stdout: include_str!("../golden/version.json").to_owned(), failed: false });
}

#[test]
fn everything_the_runtime_says_reaches_the_agent() {
    let agent = FakeAgent::answering("200 OK", attached());
    let mut conf = conf("1.0.0", &agent.socket());
    conf["mtu"] = 1400.into();
    conf["labels"] = json!({"app": "web"});
    conf["args"] = json!({"labels": {"app": "overridden", "tier": "front"}, "cni": {"labels": [{"key": "k", "value": "v"}]}});
    conf["ipam"] = json!({"type": "calico-ipam", "ipv4_pools": ["four"], "ipv6_pools": ["fd00::/112"],
        "subnet": "10.65.0.0/16", "assign_ipv4": "true"});
    conf["runtimeConfig"] = json!({"ips": ["10.65.3.7/24"], "portMappings": []});
    let arguments =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc";
    assert!(!call("ADD", &conf, &[("CNI_ARGS", arguments)]).failed);
    assert_eq!(
        agent.asked().1,
        json!({
            "network": "net", "containerId": "0123456789abcdef", "netns": "/run/netns/p", "interface": "eth0",
            "pod": {"namespace": "shop", "name": "web-0"}, "labels": {"app": "web", "k": "v", "tier": "front"},
            "addresses": ["10.65.3.7"], "pools": ["four", "fd00::/112", "10.65.0.0/16"],
            "assignIpv4": true, "assignIpv6": true, "mtu": 1400,
        })
    );
}

#[test]
fn an_address_in_the_environment_comes_first() {
    let agent = FakeAgent::answering("200 OK", attached());
    let mut conf = conf("1.0.0", &agent.socket());
    conf["runtimeConfig"] = json!({"ips": ["10.65.3.7"]});
    assert!(!call("ADD", &conf, &[("CNI_ARGS", "IP=10.65.3.9,fd00::9")]).failed);
    assert_eq!(agent.asked().1["addresses"], json!(["10.65.3.9", "fd00::9"]));
}

#[test]
fn delete_and_check_ask_their_own() {
    let agent = FakeAgent::answering("200 OK", "{}".into());
    let output = call("DEL", &conf("0.3.1", &agent.socket()), &[("CNI_NETNS", "")]);
    assert_eq!(output, Output { stdout: String::new(), failed: false });
    let (head, body) = agent.asked();
    assert_eq!(head, "POST /v1/workload/detach HTTP/1.1");
    assert_eq!(body, json!({"network": "net", "containerId": "0123456789abcdef", "interface": "eth0"}));

    let agent = FakeAgent::answering("200 OK", "{}".into());
    let mut check = conf("0.4.0", &agent.socket());
    check["prevResult"] =
        json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.65.3.1/32"}]});
    assert!(!call("CHECK", &check, &[]).failed);
    let (head, body) = agent.asked();
    assert_eq!(
        (head.as_str(), &body["addresses"]),
        ("POST /v1/workload/check HTTP/1.1", &json!(["10.65.3.1"]))
    );
}

#[test]
fn status_and_gc_exist_since_1_1() {
    let agent = FakeAgent::answering("503 Service Unavailable", "not in sync".into());
    let output = call("STATUS", &conf("1.1.0", &agent.socket()), &[]);
    let error: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&error["code"], &error["msg"]), (&json!(50), &json!("the agent answered 503: not in sync")));
    assert_eq!(agent.asked().0, "GET /ready HTTP/1.1");
    let output = call("STATUS", &conf("1.1.0", Path::new("/nonexistent/sock")), &[]);
    assert!(output.failed && output.stdout.contains("\"code\": 50"), "{}", output.stdout);
    assert!(!call("GC", &conf("1.1.0", Path::new("/nonexistent/sock")), &[]).failed);
    let output = call("GC", &conf("1.0.0", Path::new("/x")), &[]);
    assert!(output.stdout.contains("GC needs cniVersion 1.1.0 or later"), "{}", output.stdout);
}

#[test]
fn failures_are_printed_as_cni_errors() {
    let agent = FakeAgent::answering(
        "500 Internal Server Error",
        json!({"error": "cannot allocate addresses: pool 10.0.0.0/24 is exhausted"}).to_string(),
    );
    let output = call("ADD", &conf("0.4.0", &agent.socket()), &[]);
    assert_eq!(output, Output { stdout: include_str!("../golden/error.json").to_owned(), failed: true });
}

#[test]
fn codes_say_whose_fault_it_is() {
    let code = |output: Output| {
        assert!(output.failed);
        let error: Value = serde_json::from_str(&output.stdout).unwrap();
        (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap().to_owned())
    };
    for (status, expected) in [("400 X", 7), ("404 X", 3), ("409 X", 100), ("503 X", 11)] {
        let agent = FakeAgent::answering(status, json!({"error": "why"}).to_string());
        assert_eq!(
            code(call("ADD", &conf("1.0.0", &agent.socket()), &[])),
            (expected, "why".into()),
            "{status}"
        );
    }
    let killed = tempfile::tempdir().unwrap();
    let socket = killed.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Read to the end of the body, or the client would hear of a reset.
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
    });
    let (found, message) = code(call("DEL", &conf("1.0.0", &socket), &[]));
    agent.join().unwrap();
    assert!(found == 5 && message.contains("broke"), "{found} {message}");
    let nowhere = Path::new("/nonexistent/sock");
    let (found, message) = code(call("ADD", &conf("1.0.0", nowhere), &[]));
    assert_eq!(found, 11);
    assert!(message.starts_with("no agent answers at /nonexistent/sock after "), "{message}");
    for (command, conf, more, expected) in [
        ("", conf("1.0.0", nowhere), ("X", ""), "environment variable CNI_COMMAND is missing"),
        ("MOVE", conf("1.0.0", nowhere), ("X", ""), "CNI_COMMAND 'MOVE' is unknown"),
        ("ADD", conf("1.0.0", nowhere), ("CNI_NETNS", ""), "environment variable CNI_NETNS is missing"),
        ("ADD", conf("1.0.0", nowhere), ("CNI_ARGS", "IP=x"), "CNI_ARGS IP: 'x' is no IP address"),
        ("ADD", conf("1.0.0", nowhere), ("CNI_ARGS", "IP"), "CNI_ARGS: 'IP' is no key=value"),
        (
            "DEL",
            conf("1.0.0", nowhere),
            ("CNI_ARGS", "K8S_POD_NAME=x"),
            "CNI_ARGS must have both K8S_POD_NAME and K8S_POD_NAMESPACE, or neither",
        ),
    ] {
        assert_eq!(code(call(command, &conf, &[more])), (4, expected.into()));
    }
    let (found, message) = code(call("ADD", &conf("0.2.0", nowhere), &[]));
    assert_eq!(found, 1);
    assert_eq!(message, "cniVersion '0.2.0' is not supported; supported are 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    let mut nameless = conf("1.0.0", nowhere);
    nameless["name"] = "".into();
    assert_eq!(code(call("ADD", &nameless, &[])), (7, "the network configuration has no 'name'".into()));
    let mut unversioned = conf("1.0.0", nowhere);
    unversioned.as_object_mut().unwrap().remove("cniVersion");
    let (found, message) = code(call("ADD", &unversioned, &[]));
    assert!(found == 1 && message.starts_with("the network configuration has no 'cniVersion'"), "{message}");
    let (found, message) = code(call("ADD", &json!(["1.0.0"]), &[]));
    assert!(found == 6 && message.ends_with("it is no JSON object"), "{message}");
    let mut odd = conf("1.0.0", nowhere);
    odd["ipam"] = json!({"assign_ipv4": "maybe"});
    let (found, message) = code(call("ADD", &odd, &[]));
    assert_eq!(found, 6);
    assert!(message.contains("'maybe' is neither true nor false"), "{message}");
    let output = run(&|name| (name == "CNI_COMMAND").then(|| "ADD".into()), "{", Duration::ZERO);
    assert_eq!(code(output).0, 6);
}

#[test]
fn an_agent_that_comes_late_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    // A socket nobody listens at any more, as a killed agent leaves it.
    drop(UnixListener::bind(&socket).unwrap());
    let path = socket.clone();
    let (tried, first_try) = std::sync::mpsc::channel();
    let caller = std::thread::spawn(move || {
        let agent = Agent { socket: path, patience: Duration::from_secs(20) };
        tried.send(()).unwrap();
        agent.call("/v1/workload/detach", Some(b"{}"))
    });
    first_try.recv().unwrap();
    std::fs::remove_file(&socket).unwrap();
    let agent = FakeAgent::at(directory, "200 OK", "{}".into());
    assert_eq!(caller.join().unwrap().unwrap(), b"{}");
    agent.asked();
}
