//! Sets made of what several rules look for, kept up as the sets these would look into change.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Definition, DefinitionId, Sets, Shape};
use crate::ir::{Comment, Element, Elements, Origin, Peers, Set};
use crate::members::Member;

impl Sets {
    /// Name of the set with what these rules look for. Whoever asks uses the definitions of their peers, too.
    pub(crate) fn merged(&mut self, shape: Shape, origins: Vec<Origin>) -> String {
        let id = self.need(Definition::Merged(shape, Arc::from(origins)));
        self.asked.get(id).map(|asked| asked.name.clone()).unwrap_or_default()
    }

    /// Makes the set of a merged definition.
    pub(super) fn fill_merged(&mut self, id: DefinitionId) {
        let Some(asked) = self.asked.get_mut(id) else { return };
        let Definition::Merged(shape, origins) = &asked.definition else { return };
        let (mut elements, origins) = (shape.none(), Arc::clone(origins));
        asked.lengths.insert(0, 1);
        let (name, comment) = (asked.name.clone(), Comment::new(&asked.definition.comment()));
        for origin in origins.iter() {
            if let Elements::Ports(ranges) = &mut elements {
                ranges.extend(origin.services.iter().map(|service| (service.low, service.high)));
                continue;
            }
            for service in origin.services() {
                self.addresses(origin).for_each(|address| elements.set(Element { address, service }, true));
            }
        }
        for source in sources(&origins) {
            self.merged_from.entry(source.to_owned()).or_default().insert(id);
            self.touched.insert(source.to_owned());
        }
        self.touched.insert(name.clone());
        self.sets.insert(name, Set { comment, elements, counter: true });
    }

    /// The address of each of its elements.
    fn addresses<'a>(&'a self, origin: &'a Origin) -> Box<dyn Iterator<Item = Option<IpAddr>> + 'a> {
        match &origin.peers {
            None => Box::new(std::iter::once(None)),
            Some(Peers::Nets(nets)) => Box::new(nets.iter().map(|net| Some(net.network()))),
            Some(Peers::Set(name)) => match self.elements(name) {
                Some(Elements::Addresses(_, all)) => Box::new(all.iter().copied().map(Some)),
                _ => Box::new(std::iter::empty()),
            },
        }
    }

    /// A definition that may be merged is gone.
    pub(super) fn forget_merged(&mut self, id: DefinitionId, definition: &Definition) {
        for source in definition.origins().into_iter().flat_map(|origins| sources(origins)) {
            if let Some(ids) = self.merged_from.get_mut(source) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.merged_from.remove(source);
                    self.touched.insert(source.to_owned());
                }
            }
        }
    }

    /// An address came to a set or left it; so it does with the sets that are made of it, unless another rule still gives it.
    pub(super) fn pass_on(&mut self, source: &str, member: Member, present: bool) {
        let (Some(ids), Member::Network(net)) = (self.merged_from.get(source), member) else { return };
        for id in ids.clone() {
            let Some(asked) = self.asked.get(id) else { continue };
            let Some(origins) = asked.definition.origins() else { continue };
            let (name, origins) = (asked.name.clone(), Arc::clone(origins));
            let is_of_source =
                |origin: &&Origin| matches!(&origin.peers, Some(Peers::Set(set)) if set == source);
            let elements = origins.iter().filter(is_of_source).flat_map(Origin::services);
            let elements = elements.map(|service| Element { address: Some(net.network()), service });
            let holds = |set: &str, address: IpAddr| matches!(self.elements(set), Some(Elements::Addresses(_, all)) if all.contains(&address));
            let covered = |element| origins.iter().any(|origin| origin.covers(element, holds));
            let changed: Vec<Element> = elements.filter(|element| present || !covered(*element)).collect();
            if let Some(set) = self.sets.get_mut(&name) {
                changed.into_iter().for_each(|element| set.elements.set(element, present));
                self.touched.insert(name);
            }
        }
    }
}

/// Names of the sets that rules would look into.
fn sources(origins: &[Origin]) -> impl Iterator<Item = &str> {
    origins.iter().filter_map(|origin| match &origin.peers {
        Some(Peers::Set(name)) => Some(name.as_str()),
        Some(Peers::Nets(_)) | None => None,
    })
}
