//! What the kernel dropped because of TCP-MD5. It says nothing else when keys differ: the other end just hears nothing.

use std::fmt;

/// Segments dropped in this network namespace since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Md5Drops {
    /// Signed with another key.
    wrong: u64,
    /// Not signed though they should be.
    missing: u64,
    /// Signed though they should not be.
    unexpected: u64,
}

impl Md5Drops {
    /// As they are now; zero where the kernel does not tell.
    pub(super) fn read() -> Md5Drops {
        // The namespace of this thread, which need not be that of the process.
        std::fs::read_to_string("/proc/thread-self/net/netstat").map(|text| parse(&text)).unwrap_or_default()
    }

    /// What was dropped since then.
    pub(super) fn since(self, earlier: Md5Drops) -> Md5Drops {
        Md5Drops {
            wrong: self.wrong.saturating_sub(earlier.wrong),
            missing: self.missing.saturating_sub(earlier.missing),
            unexpected: self.unexpected.saturating_sub(earlier.unexpected),
        }
    }
}

/// `wrong TCP-MD5 key in 3 segments, none in 1`; nothing when there are none.
impl fmt::Display for Md5Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("wrong", self.wrong), ("missing", self.missing), ("unexpected", self.unexpected)];
        let words: Vec<String> = all
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{what} in {count}"))
            .collect();
        f.write_str(&words.join(", "))
    }
}

/// Lines come in pairs: names, then numbers.
fn parse(text: &str) -> Md5Drops {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return Md5Drops::default() };
    let number = |wanted| {
        let mut both = names.split_whitespace().zip(numbers.split_whitespace());
        both.find(|(name, _)| *name == wanted).and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
    };
    Md5Drops {
        wrong: number("TCPMD5Failure"),
        missing: number("TCPMD5NotFound"),
        unexpected: number("TCPMD5Unexpected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure Last\n\
                        TcpExt: 9 1 0 7 4\nIpExt: TCPMD5Failure\nIpExt: 99\n";

    #[test]
    fn finds_its_columns() {
        let drops = parse(TEXT);
        assert_eq!(drops, Md5Drops { wrong: 7, missing: 1, unexpected: 0 });
        assert_eq!(drops.to_string(), "wrong in 7, missing in 1");
        assert_eq!(drops.since(Md5Drops { wrong: 5, ..drops }).to_string(), "wrong in 2");
        assert_eq!(drops.since(drops).to_string(), "");
    }

    #[test]
    fn takes_anything() {
        for text in ["", "TcpExt: TCPMD5Failure", "TcpExt: TCPMD5Failure\nTcpExt: x\n", "TcpExt:\nTcpExt:\n"]
        {
            assert_eq!(parse(text), Md5Drops::default(), "{text}");
        }
    }

    #[test]
    fn this_kernel_tells() {
        let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        for name in ["TCPMD5Failure", "TCPMD5NotFound", "TCPMD5Unexpected"] {
            assert!(text.contains(name), "{name}");
        }
    }
}
