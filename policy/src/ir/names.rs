//! Texts in a rule-set that the kernel keeps: what is said of objects, and what interfaces are called.

use std::borrow::Borrow;
use std::fmt;

/// Text for people kept in the kernel with an object: at most 128 bytes, one line, no double quote.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(String);

/// Longest comment nft 1.0.6 accepts, in bytes.
const MAX_COMMENT: usize = 128;

impl Comment {
    /// Makes a text fit: quotes and control characters are replaced, what is too long ends in `~`.
    pub fn new(text: &str) -> Comment {
        Comment::with_tail(text, "")
    }

    /// The same, and when it is too long only `text` is cut, so that `tail` stays readable.
    pub fn with_tail(text: &str, tail: &str) -> Comment {
        let clean = |c: char| match c {
            '"' => '\'',
            c if c.is_control() => ' ',
            c => c,
        };
        let (mut head, tail) = (text.chars().map(clean).collect::<String>(), tail.chars().map(clean));
        let tail: String = tail.collect();
        if head.len() + tail.len() > MAX_COMMENT {
            let room = (MAX_COMMENT - 1).saturating_sub(tail.len());
            head.truncate((0..=room).rev().find(|at| head.is_char_boundary(*at)).unwrap_or(0));
            head.push('~');
        }
        Comment(head + &tail)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a network interface: 1 to 15 letters, digits, `.`, `_` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Takes a name, `None` when it is none. The kernel allows more characters than these; no container runtime uses them.
    pub fn new(name: &str) -> Option<InterfaceName> {
        let good = (1..=15).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        good.then(|| InterfaceName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for InterfaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
