//! A network namespace of our own, a veth into another one, and a real BIRD in that.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "TORTIE_BGP_TEST_INSIDE";
const BIRD: &str = "/usr/sbin/bird";
/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Our end and BIRD's end of the wire.
pub(crate) const OURS: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const THEIRS: [&str; 2] = ["10.9.0.2", "fd09::2"];

/// Runs `body` inside a user and network namespace: the test calls itself there. True when it did, so that the caller
/// is done.
pub(crate) fn ran_inside(test: &str) -> bool {
    assert!(PathBuf::from(BIRD).exists(), "{BIRD} is missing: install the Debian package bird2");
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let output = Command::new("unshare")
        .args(["-Urn", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "inside the namespace:\n{out}\n{err}");
    assert!(out.contains("1 passed"), "{test} is not the name of a test:\n{out}");
    true
}

pub(crate) fn run(words: &str) -> String {
    let mut parts = words.split_whitespace();
    let output = Command::new(parts.next().unwrap()).args(parts).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process that ends with the test, also with one that is killed.
fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// What BIRD's session to us is like.
#[derive(Clone)]
pub(crate) struct Session {
    /// Index into [`OURS`] and [`THEIRS`].
    pub(crate) family: usize,
    pub(crate) our_as: u32,
    pub(crate) their_as: u32,
    /// More lines for the protocol, such as `passive yes;`.
    pub(crate) options: String,
}

/// BIRD behind a veth.
pub(crate) struct Bird {
    directory: TempDir,
    /// Keeps the namespace alive while BIRD is dead.
    holder: Child,
    bird: Option<Child>,
    session: Session,
}

impl Bird {
    /// Builds the wire and starts BIRD with these static routes.
    pub(crate) fn start(session: Session, routes: &[&str]) -> Bird {
        let holder = bound("unshare").args(["-n", "sleep", "infinity"]).spawn().unwrap();
        let mut bird = Bird { directory: tempfile::tempdir().unwrap(), holder, bird: None, session };
        bird.wire();
        bird.write_config(routes);
        bird.launch(false);
        bird
    }

    fn wire(&self) {
        let pid = self.holder.id();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        eventually("a namespace for BIRD", || {
            let other = fs::read_link(format!("/proc/{pid}/ns/net"));
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (other.is_ok_and(|other| other != own) && command.trim() == "sleep").then_some(())
        });
        run("ip link set lo up");
        run(&format!("ip link add veth0 type veth peer name veth1 netns {pid}"));
        let inside = format!("nsenter -t {pid} -n");
        for (prefix, device, addresses) in [("", "veth0", OURS), (&inside, "veth1", THEIRS)] {
            run(&format!("{prefix} ip link set {device} up"));
            run(&format!("{prefix} ip address add {}/24 dev {device}", addresses[0]));
            run(&format!("{prefix} ip address add {}/64 dev {device} nodad", addresses[1]));
        }
        run(&format!("{inside} ip link set lo up"));
    }

    pub(crate) fn set_routes(&self, routes: &[&str]) {
        self.write_config(routes);
        let answer = self.ask("configure");
        assert!(answer.contains("Reconfigured") || answer.contains("in progress"), "{answer}");
    }

    pub(crate) fn set_options(&mut self, options: &str, routes: &[&str]) {
        self.session.options = options.to_owned();
        self.set_routes(routes);
    }

    fn write_config(&self, routes: &[&str]) {
        let Session { family, our_as, their_as, options } = &self.session;
        let channel = ["ipv4", "ipv6"][*family];
        let (ours, theirs) = (OURS[*family], THEIRS[*family]);
        let mut config = format!(
            "log \"{0}/log\" all;\ndebug protocols {{ states, events }};\nrouter id 2.2.2.2;\ngraceful restart wait 30;\n\
             protocol device {{ }}\nprotocol direct {{ ipv4; ipv6; }}\n\
             protocol static {{\n  {channel};\n",
            self.directory.path().display()
        );
        for route in routes {
            writeln!(config, "  route {route} blackhole;").unwrap();
        }
        write!(
            config,
            "}}\nprotocol bgp tortie {{\n  local {theirs} as {their_as};\n  neighbor {ours} as {our_as};\n  \
             connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  graceful restart on;\n  \
             {options}\n  {channel} {{ import all; export where source = RTS_STATIC; next hop self; }};\n}}\n"
        )
        .unwrap();
        fs::write(self.path("bird.conf"), config).unwrap();
    }

    /// Starts BIRD; `recover` as after a crash.
    pub(crate) fn launch(&mut self, recover: bool) {
        let mut command = bound("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "--", BIRD, "-f"]);
        command
            .arg("-c")
            .arg(self.path("bird.conf"))
            .arg("-s")
            .arg(self.path("ctl"))
            .arg("-P")
            .arg(self.path("pid"));
        if recover {
            command.arg("-R");
        }
        self.bird = Some(command.stdin(Stdio::null()).spawn().unwrap());
        eventually("BIRD answers", || self.try_ask("show status")?.contains("up and running").then_some(()));
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut bird = self.bird.take().unwrap();
        bird.kill().unwrap();
        bird.wait().unwrap();
        fs::remove_file(self.path("ctl")).ok();
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.bird.as_ref().unwrap().id()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn try_ask(&self, question: &str) -> Option<String> {
        let output =
            Command::new("birdc").arg("-s").arg(self.path("ctl")).args(question.split(' ')).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Its exit code says whether the question found something.
        text.starts_with("BIRD").then_some(text)
    }

    /// Asks through the control socket.
    pub(crate) fn ask(&self, question: &str) -> String {
        self.try_ask(question)
            .unwrap_or_else(|| panic!("BIRD does not answer {question}; log:\n{}", self.log()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What BIRD knows of a prefix from us, or nothing.
    pub(crate) fn route(&self, prefix: &str) -> Option<String> {
        let answer = self.ask(&format!("show route all {prefix} protocol tortie"));
        answer.contains(prefix).then_some(answer)
    }

    /// How many routes it has from us.
    pub(crate) fn count(&self) -> usize {
        let text = self.ask("show route protocol tortie count");
        let line = text.lines().find(|line| line.contains(" routes for ")).unwrap_or("0");
        line.split(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn until_count(&self, count: usize) {
        let mut last = 0;
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            last = self.count();
            if last == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("BIRD has {last} routes instead of {count}; log:\n{}", self.log());
    }

    pub(crate) fn is_established(&self) -> bool {
        self.ask("show protocols tortie").contains("Established")
    }

    /// Waits until a question is answered with `text`.
    pub(crate) fn until(&self, question: &str, text: &str) -> String {
        let mut last = String::new();
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            last = self.ask(question);
            if last.contains(text) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("BIRD never said {text} to {question}, last {last}; log:\n{}", self.log());
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        for child in self.bird.iter_mut().chain([&mut self.holder]) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Polls until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
