//! What `Log` rules write to the kernel's log: what precedes the lines, and how many there may be.

use crate::ir::{Action, Limit};

/// Longest prefix the kernel keeps, in bytes.
const MAX_PREFIX: usize = 127;
/// Ends the prefix, so that the packet's fields stand apart.
const END: &str = ": ";

/// `LogPrefix` of Felix, and where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// The prefix; `%t` stands for the tier, `%k` for the kind in short, `%p` for the name, `%n` for the name with its
    /// namespace, and, what Felix does not have, `%r` for the rule.
    pub prefix: String,
    /// Group of nflog that gets the packets instead of the kernel's log.
    pub group: Option<u16>,
    /// How often each rule may write; always when absent.
    pub limit: Option<Limit>,
}

impl Default for LogFormat {
    fn default() -> LogFormat {
        LogFormat { prefix: "calico-packet".to_owned(), group: None, limit: None }
    }
}

/// What a rule that logs is part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOrigin<'a> {
    pub(crate) tier: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Field and place of the rule, such as `ingress[0]`.
    pub(crate) rule: &'a str,
}

impl LogFormat {
    /// What a rule that logs does.
    pub(crate) fn action(&self, origin: LogOrigin<'_>) -> Action {
        Action::Log { prefix: self.prefix(origin), group: self.group, limit: self.limit }
    }

    /// The prefix for a rule; what does not fit is cut, and what would end the text or be a variable to nft is replaced.
    fn prefix(&self, origin: LogOrigin<'_>) -> String {
        let mut text = String::new();
        let mut rest = self.prefix.chars();
        while let Some(c) = rest.next() {
            match (c, rest.as_str().chars().next()) {
                ('%', Some('t')) => text.push_str(origin.tier),
                ('%', Some('k')) => text.push_str(origin.kind),
                ('%', Some('p')) => text.push_str(origin.name),
                ('%', Some('r')) => text.push_str(origin.rule),
                ('%', Some('n')) if origin.namespace.is_empty() => text.push_str(origin.name),
                ('%', Some('n')) => text.extend([origin.namespace, "/", origin.name]),
                _ => {
                    text.push(c);
                    continue;
                }
            }
            rest.next();
        }
        let mut text: String = text.chars().map(plain).collect();
        let room = MAX_PREFIX - END.len();
        text.truncate((0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text + END
    }
}

fn plain(c: char) -> char {
    match c {
        '"' => '\'',
        '$' | '\\' => '_',
        c if c.is_control() => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, name: &str) -> String {
        let format = LogFormat { prefix: text.to_owned(), ..LogFormat::default() };
        format.prefix(LogOrigin { tier: "default", kind: "np", namespace: "shop", name, rule: "ingress[2]" })
    }

    #[test]
    fn verbs_stand_for_where_the_rule_is_from() {
        assert_eq!(LogFormat::default().prefix, "calico-packet");
        assert_eq!(prefix("calico-packet", "web"), "calico-packet: ");
        assert_eq!(prefix("%t|%k|%p|%n|%r|%x|100%", "web"), "default|np|web|shop/web|ingress[2]|%x|100%: ");
        assert_eq!(prefix("a\"b$c\\d\ne %p", "%t"), "a'b_c_d e %t: ");
    }

    #[test]
    fn a_prefix_fits_into_what_the_kernel_keeps() {
        for name in ["x".repeat(300), "é".repeat(300)] {
            let text = prefix("%n", &name);
            assert!((125..=127).contains(&text.len()) && text.ends_with(": "), "{text}");
        }
    }
}
