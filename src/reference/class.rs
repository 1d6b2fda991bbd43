//! What the words of a profile mean in the parser of logs: classes of events, and quirks.

use assay_eventlog::Class;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;

pub fn is_class(name: &str) -> bool {
    name.parse::<Class>().is_ok()
}

/// Whether such an event needs no set: its text is bound and others test it, or it extends nothing.
pub fn is_bound(name: &str) -> bool {
    name.parse::<Class>().is_ok_and(|class| {
        let extends = !matches!(class, Class::Locality | Class::NoAction);
        !extends || class.binds_its_text()
    })
}

pub fn is_quirk(name: &str) -> bool {
    name.parse::<Quirk>().is_ok()
}

/// The quirks that these names name.
pub fn quirks<'a>(names: impl IntoIterator<Item = &'a String>) -> Quirks {
    names.into_iter().filter_map(|name| name.parse::<Quirk>().ok()).collect()
}
