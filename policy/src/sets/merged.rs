//! Sets made of what several rules look for, kept up as the sets these would look into change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Definition, DefinitionId, Sets, Shape, Width};
use crate::ir::{Comment, Element, Elements, Origin, Peers, Set};

/// Which rules of a merged set give what, by their places.
#[derive(Debug, Default)]
pub(super) struct Givers {
    of_source: HashMap<String, Vec<usize>>,
    of_service: HashMap<Option<(u8, u16)>, Vec<usize>>,
}

impl Givers {
    fn new(origins: &[Origin]) -> Givers {
        let mut givers = Givers::default();
        for (place, origin) in origins.iter().enumerate() {
            if let Some(Peers::Set(name)) = &origin.peers {
                givers.of_source.entry(name.clone()).or_default().push(place);
            }
            for service in origin.services() {
                givers.of_service.entry(service).or_default().push(place);
            }
        }
        givers
    }

    fn of_source(&self, source: &str) -> impl Iterator<Item = usize> + '_ {
        self.of_source.get(source).into_iter().flatten().copied()
    }

    fn of_service(&self, service: Option<(u8, u16)>) -> impl Iterator<Item = usize> + '_ {
        self.of_service.get(&service).into_iter().flatten().copied()
    }
}

impl Sets {
    /// Name of the set with what these rules look for. Whoever asks uses the definitions of their peers, too.
    pub(crate) fn merged(&mut self, shape: Shape, origins: Vec<Origin>, width: Width) -> String {
        let id = self.need(Definition::Merged(shape, Arc::from(origins), width));
        self.asked.get(id).map(|asked| asked.name.clone()).unwrap_or_default()
    }

    /// Makes the set of a merged definition.
    pub(super) fn fill_merged(&mut self, id: DefinitionId) {
        let Some(asked) = self.asked.get_mut(id) else { return };
        let Definition::Merged(shape, origins, width) = &asked.definition else { return };
        let (shape, width, mut elements, origins) = (*shape, *width, shape.none(), Arc::clone(origins));
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
        if shape != Shape::Ranges {
            self.givers.insert(id, Givers::new(&origins));
        }
        for source in sources(&origins) {
            self.merged_from.entry(source.to_owned()).or_default().insert(id);
            self.touched.insert(source.to_owned());
        }
        self.touched.insert(name.clone());
        self.sets.insert(name, Set { comment, elements, counter: width.counted, size: width.size });
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
        self.givers.remove(&id);
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
    pub(super) fn pass_on(&mut self, source: &str, address: IpAddr, present: bool) {
        let Some(ids) = self.merged_from.get(source) else { return };
        for id in ids.clone() {
            let changed = self.given(id, source, address, present);
            let Some(name) = self.asked.get(id).map(|asked| &asked.name) else { continue };
            if let Some(set) = self.sets.get_mut(name) {
                changed.into_iter().for_each(|element| set.elements.set(element, present));
                self.touched.insert(name.clone());
            }
        }
    }

    /// What comes to a merged set or leaves it with an address of a source.
    fn given(&self, id: DefinitionId, source: &str, address: IpAddr, present: bool) -> Vec<Element> {
        let (Some(asked), Some(givers)) = (self.asked.get(id), self.givers.get(&id)) else {
            return Vec::new();
        };
        let Some(origins) = asked.definition.origins() else { return Vec::new() };
        let holds = |set: &str, address: IpAddr| matches!(self.elements(set), Some(Elements::Addresses(_, all)) if all.contains(&address));
        let covered = |element: &Element| {
            let mut others = givers.of_service(element.service).filter_map(|place| origins.get(place));
            others.any(|origin| origin.covers(*element, holds))
        };
        let of_source = givers.of_source(source).filter_map(|place| origins.get(place));
        let elements =
            of_source.flat_map(Origin::services).map(|service| Element { address: Some(address), service });
        elements.filter(|element| present || !covered(element)).collect()
    }
}

/// Names of the sets that rules would look into.
fn sources(origins: &[Origin]) -> impl Iterator<Item = &str> {
    origins.iter().filter_map(|origin| match &origin.peers {
        Some(Peers::Set(name)) => Some(name.as_str()),
        Some(Peers::Nets(_)) | None => None,
    })
}
