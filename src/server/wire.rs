//! Between SPIRE's messages and our values, both ways: IDs, selectors, entries, masks, bundles.
//!
//! What comes in is untrusted: it is parsed into values that are valid by construction, or named
//! in an `InvalidArgument`. What goes out carries only the fields that its mask asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_evidence::reason::Finding;
use assay_evidence::time::Time;
use assay_proto::assay::v1::EntryExtension;
use assay_proto::assay::v1::Instance as WireInstance;
use assay_proto::attestation;
use assay_proto::spire::api::types;
use assay_proto::spire::api::types::selector_match::MatchBehavior;
use tonic::Status;

use crate::spiffe::Bundle;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::EntryParams;
use crate::spiffe::Instance;
use crate::spiffe::JwtSvid;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;
use crate::spiffe::X509Svid;

/// Selectors read from one message.
const MAX_SELECTORS: usize = 64;

pub fn spiffe_id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

pub fn parse_spiffe_id(field: &str, id: Option<&types::Spiffeid>) -> Result<SpiffeId, Status> {
    let id = id.ok_or_else(|| Status::invalid_argument(format!("`{field}` is missing")))?;
    SpiffeId::parse(&format!("spiffe://{}{}", id.trust_domain, id.path))
        .map_err(|error| Status::invalid_argument(format!("`{field}`: {error}")))
}

pub fn selectors(selectors: &BTreeSet<Selector>) -> Vec<types::Selector> {
    selectors
        .iter()
        .map(|s| types::Selector { r#type: s.kind().to_owned(), value: s.value().to_owned() })
        .collect()
}

pub fn parse_selectors(found: &[types::Selector]) -> Result<BTreeSet<Selector>, Status> {
    if found.len() > MAX_SELECTORS {
        let fault = format!("at most {MAX_SELECTORS} selectors, found {}", found.len());
        return Err(Status::invalid_argument(fault));
    }
    found
        .iter()
        .map(|s| Selector::new(&s.r#type, &s.value))
        .collect::<Result<_, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Selectors that we wrote ourselves: a node has more than a message may bring.
pub fn parse_selectors_unbounded(found: &[types::Selector]) -> Result<BTreeSet<Selector>, Status> {
    found
        .iter()
        .map(|s| Selector::new(&s.r#type, &s.value))
        .collect::<Result<_, _>>()
        .map_err(|error| Status::internal(error.to_string()))
}

/// A finding as it travels; what hardware or a profile said is bounded.
pub fn finding(finding: &Finding) -> attestation::Finding {
    let bounded = |text: &str| text.chars().take(512).collect::<String>();
    attestation::Finding {
        code: finding.code.code().to_owned(),
        claim: bounded(&finding.claim),
        found: bounded(&finding.found),
        expected: bounded(&finding.expected),
        source: bounded(&finding.source),
    }
}

/// A filter on selectors, as SPIRE defines the four ways.
#[derive(Debug, Clone)]
pub struct SelectorFilter {
    selectors: BTreeSet<Selector>,
    behavior: MatchBehavior,
}

impl SelectorFilter {
    pub fn parse(found: &types::SelectorMatch) -> Result<Self, Status> {
        let selectors = parse_selectors(&found.selectors)?;
        if selectors.is_empty() {
            return Err(Status::invalid_argument("a selector filter needs selectors"));
        }
        let behavior = MatchBehavior::try_from(found.r#match)
            .map_err(|_| Status::invalid_argument(format!("no such match: {}", found.r#match)))?;
        Ok(Self { selectors, behavior })
    }

    pub fn admits(&self, stored: &BTreeSet<Selector>) -> bool {
        match self.behavior {
            MatchBehavior::MatchExact => *stored == self.selectors,
            MatchBehavior::MatchSubset => !stored.is_empty() && stored.is_subset(&self.selectors),
            MatchBehavior::MatchSuperset => stored.is_superset(&self.selectors),
            MatchBehavior::MatchAny => !stored.is_disjoint(&self.selectors),
        }
    }
}

/// An entry as asked for with `mask`; `None` asks for everything.
pub fn entry(entry: &Entry, mask: Option<&types::EntryMask>) -> types::Entry {
    let all = types::EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
    };
    let mask = mask.unwrap_or(&all);
    let mut wire = types::Entry { id: entry.id().to_string(), ..types::Entry::default() };
    if mask.spiffe_id {
        wire.spiffe_id = Some(spiffe_id(entry.spiffe_id()));
    }
    if mask.parent_id {
        wire.parent_id = Some(spiffe_id(entry.parent_id()));
    }
    if mask.selectors {
        wire.selectors = selectors(entry.selectors());
    }
    if mask.x509_svid_ttl {
        wire.x509_svid_ttl = seconds(entry.x509_svid_ttl());
    }
    if mask.jwt_svid_ttl {
        wire.jwt_svid_ttl = seconds(entry.jwt_svid_ttl());
    }
    wire.admin = mask.admin && entry.admin();
    wire.downstream = mask.downstream && entry.downstream();
    if mask.expires_at {
        wire.expires_at = entry.expires_at().map_or(0, Time::unix_s);
    }
    if mask.dns_names {
        wire.dns_names = entry.dns_names().to_vec();
    }
    if mask.revision_number {
        wire.revision_number = entry.revision();
    }
    if mask.hint {
        wire.hint = entry.hint().to_owned();
    }
    if mask.created_at {
        wire.created_at = entry.created_at().unix_s();
    }
    if mask.additional_attributes && entry.jwt_include_jti() {
        wire.additional_attributes = Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: true,
        });
    }
    // Not in SPIRE's mask, so it is always there where it says something.
    if entry.instance() != Instance::Shared || entry.admit_unattested() {
        let instance = match entry.instance() {
            Instance::Shared => WireInstance::Shared,
            Instance::Process => WireInstance::Process,
        };
        wire.assay = Some(EntryExtension {
            instance: instance.into(),
            admit_unattested: entry.admit_unattested(),
        });
    }
    wire
}

/// What an operator asks for; `id` is the one to use.
pub fn parse_entry(wire: &types::Entry, id: EntryId) -> Result<EntryParams, Status> {
    if !wire.federates_with.is_empty() {
        return Err(Status::invalid_argument("`federates_with`: federation is not served"));
    }
    if wire.store_svid {
        return Err(Status::invalid_argument("`store_svid`: SVID stores are not served"));
    }
    let attributes = wire.additional_attributes.unwrap_or_default();
    let extension = wire.assay.unwrap_or_default();
    Ok(EntryParams {
        id,
        spiffe_id: parse_spiffe_id("spiffe_id", wire.spiffe_id.as_ref())?,
        parent_id: parse_spiffe_id("parent_id", wire.parent_id.as_ref())?,
        selectors: parse_selectors(&wire.selectors)?,
        x509_svid_ttl: parse_seconds("x509_svid_ttl", wire.x509_svid_ttl)?,
        jwt_svid_ttl: parse_seconds("jwt_svid_ttl", wire.jwt_svid_ttl)?,
        admin: wire.admin,
        downstream: wire.downstream,
        expires_at: parse_time("expires_at", wire.expires_at)?,
        dns_names: wire.dns_names.clone(),
        hint: wire.hint.clone(),
        instance: parse_instance(extension.instance)?,
        admit_unattested: extension.admit_unattested,
        jwt_include_jti: attributes.jwt_svid_include_jti,
    })
}

/// `stored` with the fields of `wire` that `mask` names; the extension changes where it is sent.
pub fn merge_entry(
    stored: &Entry,
    wire: &types::Entry,
    mask: Option<&types::EntryMask>,
) -> Result<EntryParams, Status> {
    let mut whole = entry(stored, None);
    let Some(mask) = mask else {
        let mut asked = wire.clone();
        asked.assay = asked.assay.or(whole.assay);
        return parse_entry(&asked, stored.id().clone());
    };
    macro_rules! take {
        ($($field:ident)*) => {
            $(if mask.$field { whole.$field = wire.$field.clone(); })*
        };
    }
    take!(spiffe_id parent_id selectors x509_svid_ttl federates_with admin downstream expires_at);
    take!(dns_names store_svid jwt_svid_ttl hint additional_attributes);
    whole.assay = wire.assay.or(whole.assay);
    parse_entry(&whole, stored.id().clone())
}

pub fn bundle(bundle: &Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let all = types::BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        wit_authorities: true,
    };
    let mask = mask.unwrap_or(&all);
    let mut wire = types::Bundle {
        trust_domain: bundle.trust_domain.as_str().to_owned(),
        ..types::Bundle::default()
    };
    if mask.x509_authorities {
        wire.x509_authorities = bundle
            .x509_authorities
            .iter()
            .map(|der| types::X509Certificate { asn1: der.clone(), tainted: false })
            .collect();
    }
    if mask.jwt_authorities {
        wire.jwt_authorities = bundle
            .jwt_authorities
            .iter()
            .map(|key| types::JwtKey {
                public_key: key.public_key.clone(),
                key_id: key.key_id.clone(),
                expires_at: key.expires_at.unix_s(),
                tainted: false,
            })
            .collect();
    }
    if mask.refresh_hint {
        wire.refresh_hint = bundle.refresh_hint_s;
    }
    if mask.sequence_number {
        wire.sequence_number = bundle.sequence;
    }
    wire
}

pub fn x509_svid(svid: &X509Svid) -> types::X509svid {
    types::X509svid {
        cert_chain: svid.chain.clone(),
        id: Some(spiffe_id(&svid.id)),
        expires_at: svid.not_after.unix_s(),
        hint: svid.hint.clone(),
    }
}

pub fn jwt_svid(svid: &JwtSvid) -> types::Jwtsvid {
    types::Jwtsvid {
        token: svid.token.clone(),
        id: Some(spiffe_id(&svid.id)),
        expires_at: svid.expires_at.unix_s(),
        issued_at: svid.issued_at.unix_s(),
        hint: svid.hint.clone(),
    }
}

/// The outcome of one item of a batch.
pub fn status(status: &Status) -> types::Status {
    types::Status { code: status.code().into(), message: status.message().to_owned() }
}

pub fn ok() -> types::Status {
    types::Status { code: tonic::Code::Ok.into(), message: String::new() }
}

fn seconds(span: Duration) -> i32 {
    i32::try_from(span.as_secs()).unwrap_or(i32::MAX)
}

fn parse_seconds(field: &str, seconds: i32) -> Result<Duration, Status> {
    let seconds = u64::try_from(seconds)
        .map_err(|_| Status::invalid_argument(format!("`{field}` is negative: {seconds}")))?;
    Ok(Duration::from_secs(seconds))
}

fn parse_time(field: &str, seconds: i64) -> Result<Option<Time>, Status> {
    // The end of year 9999, the last that RFC 5280 and RFC 3339 can write.
    match seconds {
        0 => Ok(None),
        1..=253_402_300_799 => Ok(Some(Time::from_unix_s(seconds))),
        _ => Err(Status::invalid_argument(format!("`{field}` is no time: {seconds}"))),
    }
}

fn parse_instance(instance: i32) -> Result<Instance, Status> {
    match WireInstance::try_from(instance) {
        Ok(WireInstance::Shared) => Ok(Instance::Shared),
        Ok(WireInstance::Process) => Ok(Instance::Process),
        Err(_) => Err(Status::invalid_argument(format!("no such instance: {instance}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spiffe::TrustDomain;

    fn asked() -> types::Entry {
        types::Entry {
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "example.org".to_owned(),
                path: "/web".to_owned(),
            }),
            parent_id: Some(types::Spiffeid {
                trust_domain: "example.org".to_owned(),
                path: "/spire/agent/assay/00".to_owned(),
            }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:0".into() }],
            x509_svid_ttl: 60,
            jwt_svid_ttl: 30,
            admin: true,
            expires_at: 2_000_000_000,
            dns_names: vec!["web.example.org".to_owned()],
            hint: "h".to_owned(),
            assay: Some(EntryExtension {
                instance: WireInstance::Process.into(),
                admit_unattested: false,
            }),
            ..types::Entry::default()
        }
    }

    fn stored(wire: &types::Entry) -> Entry {
        let params = parse_entry(wire, EntryId::parse("web").unwrap()).unwrap();
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        Entry::new(params, &trust_domain, Time::from_unix_s(7), 3).unwrap()
    }

    #[test]
    fn an_entry_comes_back_as_it_was_asked_for() {
        let entry = entry(&stored(&asked()), None);
        let expected =
            types::Entry { id: "web".to_owned(), revision_number: 3, created_at: 7, ..asked() };
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_mask_lets_only_its_fields_out() {
        let mask = types::EntryMask { revision_number: true, ..types::EntryMask::default() };
        let entry = entry(&stored(&asked()), Some(&mask));
        assert_eq!((entry.id.as_str(), entry.revision_number), ("web", 3));
        assert!(entry.spiffe_id.is_none() && entry.selectors.is_empty() && !entry.admin);
    }

    #[test]
    fn an_update_changes_what_its_mask_names_and_keeps_an_extension_that_it_lacks() {
        let stored = stored(&asked());
        let change =
            types::Entry { hint: "new".to_owned(), x509_svid_ttl: 9, assay: None, ..asked() };
        let mask = types::EntryMask { hint: true, ..types::EntryMask::default() };
        let masked = merge_entry(&stored, &change, Some(&mask)).unwrap();
        assert_eq!((masked.hint.as_str(), masked.x509_svid_ttl.as_secs()), ("new", 60));
        assert_eq!(masked.instance, Instance::Process);
        let whole = merge_entry(&stored, &change, None).unwrap();
        assert_eq!((whole.hint.as_str(), whole.x509_svid_ttl.as_secs()), ("new", 9));
        assert_eq!(whole.instance, Instance::Process);
    }

    #[test]
    fn what_is_not_a_value_is_named() {
        let refused = |change: fn(&mut types::Entry)| {
            let mut wire = asked();
            change(&mut wire);
            parse_entry(&wire, EntryId::parse("web").unwrap()).unwrap_err().message().to_owned()
        };
        assert!(refused(|e| e.spiffe_id = None).contains("`spiffe_id` is missing"));
        assert!(refused(|e| e.x509_svid_ttl = -1).contains("`x509_svid_ttl`"));
        assert!(refused(|e| e.expires_at = i64::MAX).contains("`expires_at`"));
        assert!(refused(|e| e.federates_with = vec!["a".into()]).contains("`federates_with`"));
        assert!(refused(|e| e.assay.as_mut().unwrap().instance = 7).contains("no such instance"));
    }

    #[test]
    fn the_four_selector_matches_are_told_apart() {
        let set = |texts: &[&str]| -> BTreeSet<Selector> {
            texts.iter().map(|t| Selector::parse(t).unwrap()).collect()
        };
        let filter = |behavior: MatchBehavior| {
            SelectorFilter::parse(&types::SelectorMatch {
                selectors: selectors(&set(&["a:1", "a:2"])),
                r#match: behavior.into(),
            })
            .unwrap()
        };
        let admits = |behavior| {
            [&["a:1"][..], &["a:1", "a:2"], &["a:1", "a:2", "a:3"], &["a:3"]]
                .map(|stored| filter(behavior).admits(&set(stored)))
        };
        assert_eq!(admits(MatchBehavior::MatchExact), [false, true, false, false]);
        assert_eq!(admits(MatchBehavior::MatchSubset), [true, true, false, false]);
        assert_eq!(admits(MatchBehavior::MatchSuperset), [false, true, true, false]);
        assert_eq!(admits(MatchBehavior::MatchAny), [true, true, true, false]);
        assert!(SelectorFilter::parse(&types::SelectorMatch::default()).is_err());
    }
}
