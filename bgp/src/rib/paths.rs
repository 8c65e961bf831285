//! The paths of a prefix. Most prefixes have one, which then needs no allocation of its own.

use super::PeerKey;
use super::attrs::AttrId;

/// One path of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) peer: PeerKey,
    /// The identifier the peer gave it (RFC 7911), or 0.
    pub(crate) remote_id: u32,
    pub(crate) received: AttrId,
    /// After import; `None` when it was rejected.
    pub(crate) accepted: Option<AttrId>,
    /// The identifier we announce it with where several paths are announced; unique within the prefix.
    pub(crate) local_id: u16,
    /// Kept over a restart of the peer (RFC 4724 4.2), or not confirmed yet by a refresh (RFC 7313).
    pub(crate) stale: bool,
}

/// The identifier of a route of our own; learned paths come after it.
pub(crate) const OWN_ID: u16 = 1;

/// Where the paths of a prefix are.
#[derive(Debug, Default)]
pub(crate) enum Paths {
    #[default]
    None,
    One(Path),
    /// In [`Store`].
    Many(u32),
}

/// The paths of prefixes that have several.
#[derive(Debug, Default)]
pub(crate) struct Store {
    lists: Vec<Vec<Path>>,
    free: Vec<u32>,
}

impl Store {
    pub(crate) fn get<'a>(&'a self, paths: &'a Paths) -> &'a [Path] {
        match paths {
            Paths::None => &[],
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Many(at) => &self.lists[*at as usize],
        }
    }

    pub(crate) fn get_mut<'a>(&'a mut self, paths: &'a mut Paths) -> &'a mut [Path] {
        match paths {
            Paths::None => &mut [],
            Paths::One(path) => std::slice::from_mut(path),
            Paths::Many(at) => &mut self.lists[*at as usize],
        }
    }

    /// Adds a path with an identifier no other path of the prefix has; false when there is none left, and the path counts
    /// as never announced.
    pub(crate) fn add(&mut self, paths: &mut Paths, mut path: Path) -> bool {
        let Some(id) = free_id(self.get(paths)) else { return false };
        path.local_id = id;
        match paths {
            Paths::None => *paths = Paths::One(path),
            Paths::One(first) => {
                let list = vec![*first, path];
                *paths = Paths::Many(self.insert(list));
            }
            Paths::Many(at) => self.lists[*at as usize].push(path),
        }
        true
    }

    /// Removes the paths `gone` holds for; whether there were any.
    pub(crate) fn remove(&mut self, paths: &mut Paths, mut gone: impl FnMut(&Path) -> bool) -> bool {
        match paths {
            Paths::None => false,
            Paths::One(path) => {
                let removed = gone(path);
                if removed {
                    *paths = Paths::None;
                }
                removed
            }
            Paths::Many(at) => {
                let list = &mut self.lists[*at as usize];
                let before = list.len();
                list.retain(|path| !gone(path));
                let removed = list.len() < before;
                let left = match list.as_slice() {
                    [] => Some(Paths::None),
                    [last] => Some(Paths::One(*last)),
                    _ => None,
                };
                if let Some(left) = left {
                    self.lists[*at as usize] = Vec::new();
                    self.free.push(*at);
                    *paths = left;
                }
                removed
            }
        }
    }

    fn insert(&mut self, list: Vec<Path>) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.lists[at as usize] = list;
                at
            }
            None => {
                self.lists.push(list);
                u32::try_from(self.lists.len() - 1).expect("fewer than 2^32 prefixes fit into memory")
            }
        }
    }
}

/// The lowest identifier not in use.
fn free_id(paths: &[Path]) -> Option<u16> {
    let first = OWN_ID + 1;
    if paths.is_empty() {
        return Some(first);
    }
    let mut used = vec![false; paths.len()];
    for path in paths {
        if let Some(used) = used.get_mut(usize::from(path.local_id - first)) {
            *used = true;
        }
    }
    let lowest = used.iter().position(|used| !used).unwrap_or(paths.len());
    u16::try_from(lowest).ok()?.checked_add(first)
}
