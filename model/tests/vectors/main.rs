//! Calico's rules as tables: each row is worked out by hand from the rule it stands under (calico-datamodel 1 to 5), none
//! from what our code prints. A table that was worked out with a program says how.

mod block_order;
mod blocks;
mod documents;
mod keys;
mod names;
mod scalars;
mod selector_properties;
mod selectors;
mod v1;
