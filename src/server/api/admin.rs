//! Our Admin service, on the private socket alone: nodes, verdicts, records, authorities.
//!
//! What changes something here is recorded under the uid and pid of the socket's peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use assay_evidence::binding::Face;
use assay_evidence::certificate::Certificate;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_proto::assay::v1 as proto;
use assay_proto::attestation;
use assay_tpm::endorsement;
use serde_json::Value;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::records::Draft;
use crate::records::Record;
use crate::records::Ref;
use crate::records::RefKind;
use crate::server::api::agent::act_with;
use crate::server::api::agent::spoken;
use crate::server::api::attestation_key;
use crate::server::api::svid::patience;
use crate::server::authorization::Caller;
use crate::server::config::Custody;
use crate::server::domain::Domain;
use crate::server::gate::caller_of;
use crate::server::nodes;
use crate::server::nodes::Node;
use crate::server::nodes::View;
use crate::server::refusal;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::store::Admission;
use crate::store::AuthorityKind;
use crate::store::AuthorityState;
use crate::store::Change;
use crate::store::EkAdmission;
use crate::store::Flag;
use crate::store::NodeKind;
use crate::store::NodeRow;
use crate::store::Serials;
use crate::store::StoreError;

const NODES_PAGE: usize = 100;
const RECORDS_PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
/// Records looked at by one call, whatever it asks for.
const MAX_LOOKED_AT: u64 = 100_000;
/// Records read from the store at once.
const STRETCH: u64 = 1_000;
/// After so many bytes an answer takes no further record: clients read 4 MiB by default.
const ANSWER_BYTES: usize = 2 * 1_024 * 1_024;
/// Records of a way back.
const MAX_WAY_BACK: usize = 64;
/// How far back the newest verdict about a node is looked for.
const RECENT: usize = 64;
const MAX_LABELS: usize = 64;

#[derive(Clone)]
pub struct AdminApi(pub Arc<Domain>);

fn store(error: StoreError) -> Status {
    refusal::store(&error)
}

/// What an operator says of a node.
struct Welcome {
    owner: String,
    labels: BTreeMap<String, String>,
    faces: Vec<Face>,
    profile: Option<String>,
    no_sha1: bool,
}

impl Welcome {
    fn parse(domain: &Domain, asked: &proto::AdmitNodeRequest) -> Result<Self, Status> {
        let invalid = |fault: String| Err(Status::invalid_argument(fault));
        let profile = (!asked.profile.is_empty()).then(|| asked.profile.clone());
        if let Err(error) = domain.profile(profile.as_deref()) {
            return invalid(format!("`profile`: {error}"));
        }
        if asked.labels.len() > MAX_LABELS {
            return invalid(format!("at most {MAX_LABELS} labels"));
        }
        for (key, value) in &asked.labels {
            let selector = crate::spiffe::Selector::new("assay", &format!("label:{key}:{value}"));
            if key.is_empty() || key.contains(':') || selector.is_err() {
                return invalid(format!("`labels`: `{key}:{value}` makes no selector"));
            }
        }
        let mut faces = Vec::new();
        for word in &asked.faces {
            match Face::parse(word) {
                Some(face) => faces.push(face),
                None => return invalid(format!("no such face: `{word}`")),
            }
        }
        if faces.is_empty() {
            faces.push(Face::Native);
        }
        if !asked.tpm_class.is_empty() {
            // A class is said by the root that an EK chains to, and without such a root no EK is
            // enrolled: an operator's word would change nothing, and must not seem to.
            return invalid(format!(
                "`tpm_class`: `{}` cannot be asserted; the class comes from the configured EK \
                 root, and an EK without one cannot be enrolled yet",
                asked.tpm_class
            ));
        }
        Ok(Self {
            owner: asked.owner.clone(),
            labels: asked.labels.clone().into_iter().collect(),
            faces,
            profile,
            no_sha1: asked.no_sha1,
        })
    }

    /// What was said, for the record.
    fn arguments(&self) -> BTreeMap<String, String> {
        let faces: Vec<&str> = self.faces.iter().map(|face| face.as_str()).collect();
        let labels = serde_json::to_string(&self.labels).unwrap_or_default();
        BTreeMap::from([
            ("owner".to_owned(), spoken(self.owner.clone())),
            ("labels".to_owned(), spoken(labels)),
            ("faces".to_owned(), faces.join(" ")),
            ("profile".to_owned(), spoken(self.profile.clone().unwrap_or_default())),
            ("no_sha1".to_owned(), self.no_sha1.to_string()),
        ])
    }

    fn apply(self, row: &mut NodeRow) {
        row.admission = Admission::Admitted;
        row.owner = self.owner;
        row.labels = self.labels;
        row.faces = self.faces;
        row.profile = self.profile;
        row.no_sha1 = self.no_sha1;
    }
}

impl AdminApi {
    async fn node(&self, node_id: &str) -> Result<Arc<Node>, Status> {
        let domain = &self.0;
        let id = domain
            .config
            .trust_domain
            .node(node_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = domain.nodes.node(&domain.store, &id).await.map_err(store)?;
        node.ok_or_else(|| Status::not_found(format!("no node `{node_id}`")))
    }

    async fn admit_key(
        &self,
        caller: &Caller,
        (kind, spki_sha256): (NodeKind, [u8; 32]),
        welcome: Welcome,
    ) -> Result<proto::NodeState, Status> {
        let domain = &self.0;
        let known = domain.store.ek(&spki_sha256).await.map_err(store)?;
        let admission = EkAdmission {
            kind,
            spki_sha256,
            owner: welcome.owner.clone(),
            labels: welcome.labels.clone(),
            faces: welcome.faces.clone(),
            profile: welcome.profile.clone(),
            no_sha1: welcome.no_sha1,
            class: None,
            admitted_at: domain.clock.now(),
        };
        let mut arguments = welcome.arguments();
        let key = match kind {
            NodeKind::TpmEk => "ek_sha256",
            NodeKind::TpmAk => "ak_sha256",
        };
        arguments.insert(key.to_owned(), hex::encode(spki_sha256));
        let record = Draft {
            subject: crate::records::Subject::TrustDomain,
            actor: caller.actor(),
            refs: Vec::new(),
            data: crate::records::Data::Admin(crate::records::Admin {
                act: "node-admit",
                arguments,
            }),
        };
        let change = Change::AdmitEk(admission.clone());
        if let Some(node_id) = known.and_then(|known| known.node_id) {
            let node = self.node(&node_id).await?;
            let (domain, known) = (domain.clone(), node.clone());
            nodes::undivided(async move {
                let _guard = known.lock().await;
                let mut row = known.view().row;
                welcome.apply(&mut row);
                let done = known.commit(&domain.store, row, vec![change], vec![record]).await;
                done.map_err(store)?;
                known.call_for_refresh();
                Ok(())
            })
            .await?;
            return self.state(&node).await;
        }
        domain.store.commit(vec![change], vec![record]).await.map_err(store)?;
        Ok(unseen(&admission))
    }

    /// Changes the row of one node by an act of an operator.
    async fn amend(
        &self,
        caller: &Caller,
        name: &'static str,
        node_id: &str,
        said: BTreeMap<String, String>,
        amend: impl FnOnce(&mut NodeRow) -> Result<(), Status> + Send + 'static,
    ) -> Result<proto::NodeState, Status> {
        let node = self.node(node_id).await?;
        let record = act_with(caller, name, &node.id, said);
        let (domain, known) = (self.0.clone(), node.clone());
        nodes::undivided(async move {
            let _guard = known.lock().await;
            let mut row = known.view().row;
            amend(&mut row)?;
            known.commit(&domain.store, row, Vec::new(), vec![record]).await.map_err(store)?;
            // What judges the node may have changed.
            known.call_for_refresh();
            Ok(())
        })
        .await?;
        tracing::info!(decision = name, caller = caller.name(), node = %node.id);
        self.state(&node).await
    }

    async fn state(&self, node: &Node) -> Result<proto::NodeState, Status> {
        let domain = &self.0;
        let View { row, standing, .. } = node.view();
        let serial = row.serials.next.or(row.serials.active);
        let issued = match &serial {
            Some(serial) => domain.store.issued(serial).await.map_err(store)?,
            None => None,
        };
        let admission = self.admission(&row).await?;
        let newest = self.newest_result(&node.id).await?;
        let last = newest.as_ref().map(|record| Verdict::of(record, node));
        let refused = last.as_ref().filter(|verdict| verdict.verdict != "affirming");
        let now = domain.clock.moment();
        let standing = match &standing {
            Some(standing) => {
                let row = standing.row();
                Some(proto::StandingState {
                    appraisal_id: row.appraisal_id.clone(),
                    verdict: "affirming".to_owned(),
                    quoted_ms: row.quoted_at.unix_ms(),
                    expires_ms: row.expires_at.unix_ms(),
                    profile_sha256: row.profile_sha256.to_vec(),
                    policy_sha256: row.policy_sha256.to_vec(),
                    rev_seq: row.revocation_sequence,
                    live: standing.is_fresh(now),
                })
            }
            None => refused.map(|refused| proto::StandingState {
                appraisal_id: refused.id.clone(),
                verdict: refused.verdict.clone(),
                ..Default::default()
            }),
        };
        let mut holds = Vec::new();
        if row.banned {
            holds.push(Reason::Banned);
        }
        holds.extend(row.flag.map(|flag| match flag {
            Flag::CloneSuspected => Reason::CloneSuspected,
            Flag::ClockRegression => Reason::ClockRegression,
        }));
        let device = row.device.as_ref();
        Ok(proto::NodeState {
            spiffe_id: node.id.to_string(),
            hardware: row.kind.as_str().to_owned(),
            hardware_digest: row.ek_spki_sha256.first().map(|d| d.to_vec()).unwrap_or_default(),
            ek_sha256: row.ek_spki_sha256.iter().map(|digest| digest.to_vec()).collect(),
            admission: admission.into(),
            owner: row.owner,
            labels: row.labels.into_iter().collect(),
            faces: row.faces.iter().map(|face| face.as_str().to_owned()).collect(),
            profile: row.profile.unwrap_or_default(),
            no_sha1: row.no_sha1,
            first_seen_ms: row.first_seen.unix_ms(),
            last_seen_ms: row.last_quoted_at.map_or(0, Time::unix_ms),
            holds: holds.into_iter().map(|reason| reason.code().to_owned()).collect(),
            tpm: Some(proto::TpmFacts {
                class: row.class.map(|class| class.as_str().to_owned()).unwrap_or_default(),
                class_asserted: row.class_asserted,
                ek_root_sha256: row.ek_root.map(|root| root.to_vec()).unwrap_or_default(),
                reset_count: row.counters.map_or(0, |counters| counters.reset_count),
                restart_count: row.counters.map_or(0, |counters| counters.restart_count),
                clock: row.counters.map_or(0, |counters| counters.clock),
                manufacturer: device.map(|device| device.manufacturer.clone()).unwrap_or_default(),
                model: device.map(|device| device.model.clone()).unwrap_or_default(),
                firmware_version: row.firmware_version.unwrap_or_default(),
            }),
            standing,
            x509svid_serial: serial.map(|serial| serial.to_string()).unwrap_or_default(),
            x509svid_expires_ms: issued.map_or(0, |issued| issued.not_after.unix_ms()),
            agent_version: row.agent_version,
            not_checked: last.as_ref().map(|last| last.texts("not_checked")).unwrap_or_default(),
            refusal_code: refused.and_then(Verdict::code).unwrap_or_default(),
            refusal_correlation_id: refused.map(|refused| refused.id.clone()).unwrap_or_default(),
            refused_ms: refused.map_or(0, |refused| refused.at.unix_ms()),
            revision: u64::try_from(row.revision).unwrap_or_default(),
            id: row.node_id,
        })
    }

    async fn admission(&self, row: &NodeRow) -> Result<proto::node_state::Admission, Status> {
        use proto::node_state::Admission as Said;
        if row.admission == Admission::Pending {
            return Ok(Said::Pending);
        }
        for ek in &row.ek_spki_sha256 {
            let known = self.0.store.ek(ek).await.map_err(store)?;
            if known.is_some_and(|known| known.admission.is_some()) {
                return Ok(Said::Hash);
            }
        }
        let roots = self.0.terms.admission.roots_of(row.kind);
        Ok(match row.ek_root.is_some_and(|root| roots.contains(&root)) {
            true => Said::Root,
            false => Said::Operator,
        })
    }

    async fn newest_result(&self, node: &SpiffeId) -> Result<Option<Record>, Status> {
        let found = self.0.store.records_by_subject(&node.to_string(), None, RECENT).await;
        Ok(found.map_err(store)?.into_iter().find(|record| record.body.kind() == "result"))
    }

    /// What a record rests on, nearest first: its standing's evidence and result, the records it
    /// names, and the authority that signed.
    async fn way_back(&self, from: &Record) -> Result<Vec<Record>, Status> {
        let reads = &self.0.store;
        let mut found: Vec<Record> = Vec::new();
        for reference in from.body.refs() {
            let records = match reference {
                Ref::Record(seq) => {
                    reads.record_at(*seq).await.map_err(store)?.into_iter().collect()
                }
                Ref::Standing(id) => {
                    let kind = RefKind::Standing;
                    reads.records_by_ref(kind, id, None, RECENT).await.map_err(store)?
                }
                Ref::Blob(_) | Ref::Entry(_) => Vec::new(),
            };
            for record in records {
                let basis = ["result", "evidence", "admin"].contains(&record.body.kind());
                if basis && record.seq != from.seq && found.iter().all(|r| r.seq != record.seq) {
                    found.push(record);
                }
            }
        }
        let authority = from.body.datum("authority").or_else(|| from.body.datum("kid"));
        if let Some(Value::String(authority)) = authority {
            let domain_id = self.0.config.trust_domain.id();
            let events = reads.records_by_subject(&domain_id, None, MAX_PAGE).await;
            let of_it = events.map_err(store)?.into_iter().find(|record| {
                record.body.kind() == "key-event"
                    && record.seq < from.seq
                    && record.body.datum("authority").and_then(Value::as_str)
                        == Some(authority.as_str())
            });
            found.extend(of_it);
        }
        found.truncate(MAX_WAY_BACK);
        Ok(found)
    }

    /// The newest record of a token with this id.
    async fn by_jti(&self, jti: &str) -> Result<Option<Record>, Status> {
        let mut end = self.0.store.sequences().records;
        let last = end.saturating_sub(MAX_LOOKED_AT);
        while end > last {
            let start = end.saturating_sub(STRETCH).max(last);
            let page = self.page(start, end).await?;
            let found = page
                .into_iter()
                .rev()
                .find(|record| record.body.datum("jti").and_then(Value::as_str) == Some(jti));
            if found.is_some() {
                return Ok(found);
            }
            end = start;
        }
        Ok(None)
    }

    /// Fills `answer` from `start` on; where to go on, unless that is the end.
    async fn forward(
        &self,
        answer: &mut RecordsPage<'_>,
        mut start: u64,
        size: u64,
    ) -> Result<Option<u64>, Status> {
        let last = size.min(start.saturating_add(MAX_LOOKED_AT));
        while start < last {
            let end = last.min(start.saturating_add(STRETCH));
            for record in self.page(start, end).await? {
                let seq = record.seq;
                if !answer.take(record) {
                    return Ok(Some(seq));
                }
            }
            start = end;
        }
        Ok((start < size).then_some(start))
    }

    /// The same from `newest` down; 0 is the end of the log.
    async fn backward(
        &self,
        answer: &mut RecordsPage<'_>,
        newest: u64,
        size: u64,
    ) -> Result<Option<u64>, Status> {
        let mut end = match newest {
            0 => size,
            newest => size.min(newest.saturating_add(1)),
        };
        let last = end.saturating_sub(MAX_LOOKED_AT);
        while end > last {
            let start = end.saturating_sub(STRETCH).max(last);
            for record in self.page(start, end).await?.into_iter().rev() {
                let seq = record.seq;
                if !answer.take(record) {
                    return Ok(Some(seq));
                }
            }
            end = start;
        }
        Ok(end.checked_sub(1))
    }

    /// Records `start..end`.
    async fn page(&self, start: u64, end: u64) -> Result<Vec<Record>, Status> {
        let limit = usize::try_from(end.saturating_sub(start)).unwrap_or(MAX_PAGE);
        let mut page = self.0.store.records(start, limit).await.map_err(store)?;
        page.retain(|record| record.seq < end);
        Ok(page)
    }
}

/// Records that a listing asks for, until its answer is full.
struct RecordsPage<'a> {
    asked: &'a proto::ListRecordsRequest,
    limit: usize,
    bytes: usize,
    found: Vec<Record>,
}

impl<'a> RecordsPage<'a> {
    fn new(asked: &'a proto::ListRecordsRequest) -> Self {
        Self { asked, limit: page(asked.limit, RECORDS_PAGE), bytes: 0, found: Vec::new() }
    }

    /// False when this record has no room any more.
    fn take(&mut self, record: Record) -> bool {
        let (kind, subject) = (record.body.kind(), record.body.subject());
        let kinds = &self.asked.types;
        let wanted = (kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind))
            && (self.asked.subject.is_empty() || self.asked.subject == subject);
        if !wanted {
            return true;
        }
        if self.found.len() >= self.limit || self.bytes > ANSWER_BYTES {
            return false;
        }
        self.bytes += record.body.bytes().len();
        self.found.push(record);
        true
    }
}

/// A `result` record, read again for a person.
struct Verdict<'a> {
    record: &'a Record,
    id: String,
    verdict: String,
    at: Time,
    node: String,
}

impl<'a> Verdict<'a> {
    fn of(record: &'a Record, node: &Node) -> Self {
        Self::new(record, node.id.node_id().unwrap_or_default().to_owned())
    }

    fn new(record: &'a Record, node: String) -> Self {
        let id = record.body.refs().iter().find_map(|reference| match reference {
            Ref::Standing(id) => Some(id.clone()),
            _ => None,
        });
        let verdict = record.body.datum("verdict").and_then(Value::as_str).unwrap_or("none");
        Self {
            record,
            id: id.unwrap_or_default(),
            verdict: verdict.to_owned(),
            at: record.body.ts(),
            node,
        }
    }

    fn findings(&self, name: &str) -> Vec<attestation::Finding> {
        let text = |value: &Value, key: &str| {
            value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let list = self.record.body.datum(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|value| attestation::Finding {
                code: text(value, "code"),
                claim: text(value, "claim"),
                found: text(value, "found"),
                expected: text(value, "expected"),
                source: text(value, "source"),
            })
            .collect()
    }

    fn code(&self) -> Option<String> {
        self.findings("findings").into_iter().next().map(|finding| finding.code)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let list = self.record.body.datum(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn explained(&self, evidence: Option<&Record>) -> proto::ExplainNodeResponse {
        let datum = |record: Option<&Record>, name: &str| {
            let value = record.and_then(|record| record.body.datum(name));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let own = |name: &str| self.record.body.datum(name);
        let digest = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str).unwrap_or_default();
            hex::decode(text).unwrap_or_default()
        };
        let profile = |key: &str| own("profile").and_then(|profile| profile.get(key));
        let code = self.code().unwrap_or_default();
        let remedy = code.parse::<Reason>().map(|reason| reason.remedy().to_owned());
        let serial = profile("serial").and_then(Value::as_str).and_then(|text| text.parse().ok());
        proto::ExplainNodeResponse {
            node_id: self.node.clone(),
            correlation_id: self.id.clone(),
            appraisal_id: self.id.clone(),
            verdict: self.verdict.clone(),
            purpose: datum(evidence, "purpose"),
            face: datum(evidence, "face"),
            at_ms: self.at.unix_ms(),
            findings: self.findings("findings"),
            warnings: self.findings("warnings"),
            judgements: Vec::new(),
            not_checked: self.texts("not_checked"),
            profile_id: profile("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            profile_serial: serial.unwrap_or_default(),
            profile_sha256: digest(profile("sha256")),
            policy_sha256: digest(own("policy_sha256")),
            record_seq: self.record.seq,
            remedy: remedy.unwrap_or_default(),
            code,
        }
    }
}

#[tonic::async_trait]
impl proto::admin_server::Admin for AdminApi {
    async fn admit_node(
        &self,
        request: Request<proto::AdmitNodeRequest>,
    ) -> Result<Response<proto::NodeState>, Status> {
        use proto::admit_node_request::By;
        let caller = caller_of(&request)?;
        let asked = request.into_inner();
        let welcome = Welcome::parse(&self.0, &asked)?;
        let key = match asked.by {
            Some(By::NodeId(node_id)) => {
                let state = self
                    .amend(&caller, "node-admit", &node_id, welcome.arguments(), move |row| {
                        welcome.apply(row);
                        Ok(())
                    })
                    .await?;
                return Ok(Response::new(state));
            }
            Some(By::EkSha256(digest)) => (NodeKind::TpmEk, digest32("ek_sha256", &digest)?),
            Some(By::AkSha256(digest)) => (NodeKind::TpmAk, digest32("ak_sha256", &digest)?),
            Some(By::EkCertificate(der)) => (NodeKind::TpmEk, key_of("ek_certificate", &der)?),
            Some(By::AkCertificate(der)) => (NodeKind::TpmAk, key_of("ak_certificate", &der)?),
            None => return Err(Status::invalid_argument("`by` is missing: whom to admit")),
        };
        let state = self.admit_key(&caller, key, welcome).await?;
        let (kind, key) = (key.0.as_str(), hex::encode(key.1));
        tracing::info!(decision = "node-admit", caller = caller.name(), kind, key);
        Ok(Response::new(state))
    }

    async fn release_node(
        &self,
        request: Request<proto::ReleaseNodeRequest>,
    ) -> Result<Response<proto::NodeState>, Status> {
        let caller = caller_of(&request)?;
        let node_id = request.into_inner().node_id;
        let state = self.amend(&caller, "node-release", &node_id, BTreeMap::new(), |row| {
            if row.flag != Some(Flag::CloneSuspected) {
                return Err(Status::failed_precondition("the node is not `clone-suspected`"));
            }
            row.flag = None;
            // Whoever spoke for it before must attest again.
            row.serials = Serials::default();
            Ok(())
        });
        Ok(Response::new(state.await?))
    }

    async fn reset_counters(
        &self,
        request: Request<proto::ResetCountersRequest>,
    ) -> Result<Response<proto::NodeState>, Status> {
        let caller = caller_of(&request)?;
        let node_id = request.into_inner().node_id;
        let state = self.amend(&caller, "node-reset-counters", &node_id, BTreeMap::new(), |row| {
            if row.flag == Some(Flag::CloneSuspected) {
                let fault = "the node is `clone-suspected`: release it first";
                return Err(Status::failed_precondition(fault));
            }
            row.flag = None;
            row.counters = None;
            Ok(())
        });
        Ok(Response::new(state.await?))
    }

    async fn get_node(
        &self,
        request: Request<proto::GetNodeRequest>,
    ) -> Result<Response<proto::NodeState>, Status> {
        let node = self.node(&request.into_inner().node_id).await?;
        Ok(Response::new(self.state(&node).await?))
    }

    async fn list_nodes(
        &self,
        request: Request<proto::ListNodesRequest>,
    ) -> Result<Response<proto::ListNodesResponse>, Status> {
        let asked = request.into_inner();
        let limit = page(asked.page_size, NODES_PAGE);
        let reads = &self.0.store;
        let after = Some(asked.page_token.as_str()).filter(|token| !token.is_empty());
        let rows = reads.nodes(after, limit + 1).await.map_err(store)?;
        let more = rows.len() > limit;
        let mut nodes = Vec::new();
        let mut last = String::new();
        for row in rows.into_iter().take(limit) {
            let node = self.node(&row.node_id).await?;
            nodes.push(self.state(&node).await?);
            last = row.node_id;
        }
        if !more {
            // Hosts that are welcome and have not come yet stand at the end.
            for admission in reads.ek_admissions(MAX_PAGE).await.map_err(store)? {
                let known = reads.ek(&admission.spki_sha256).await.map_err(store)?;
                if known.is_some_and(|known| known.node_id.is_none()) {
                    nodes.push(unseen(&admission));
                }
            }
            last.clear();
        }
        Ok(Response::new(proto::ListNodesResponse { nodes, next_page_token: last }))
    }

    async fn explain_node(
        &self,
        request: Request<proto::ExplainNodeRequest>,
    ) -> Result<Response<proto::ExplainNodeResponse>, Status> {
        use proto::explain_node_request::By;
        let reads = &self.0.store;
        let id = match request.into_inner().by {
            Some(By::CorrelationId(id)) => id,
            Some(By::NodeId(node_id)) => {
                let node = self.node(&node_id).await?;
                let record = self.newest_result(&node.id).await?;
                let record = record.ok_or_else(|| Status::not_found("no verdict recorded"))?;
                Verdict::of(&record, &node).id
            }
            None => return Err(Status::invalid_argument("`by` is missing: what to explain")),
        };
        let records = reads.records_by_ref(RefKind::Standing, &id, None, MAX_PAGE).await;
        let records = records.map_err(store)?;
        // An appraisal that affirmed has signatures behind it by now; those are not asked for.
        let of = |kind: &str| records.iter().find(|record| record.body.kind() == kind);
        let result = of("result")
            .ok_or_else(|| Status::not_found(format!("no verdict of `{id}` is recorded")))?;
        let subject = SpiffeId::parse(result.body.subject()).ok();
        let node_id = subject.as_ref().and_then(SpiffeId::node_id).unwrap_or_default().to_owned();
        let verdict = Verdict::new(result, node_id);
        Ok(Response::new(verdict.explained(of("evidence"))))
    }

    async fn list_records(
        &self,
        request: Request<proto::ListRecordsRequest>,
    ) -> Result<Response<proto::ListRecordsResponse>, Status> {
        let asked = request.into_inner();
        let size = self.0.store.sequences().records;
        let mut answer = RecordsPage::new(&asked);
        let next_seq = match asked.newest_first {
            true => self.backward(&mut answer, asked.from_seq, size).await?,
            false => self.forward(&mut answer, asked.from_seq, size).await?,
        };
        let records = answer.found.iter().map(said).collect();
        Ok(Response::new(proto::ListRecordsResponse { records, next_seq, size }))
    }

    async fn get_record(
        &self,
        request: Request<proto::GetRecordRequest>,
    ) -> Result<Response<proto::GetRecordResponse>, Status> {
        use proto::get_record_request::By;
        let reads = &self.0.store;
        let asked = request.into_inner();
        let record = match &asked.by {
            Some(By::Seq(seq)) => reads.record_at(*seq).await.map_err(store)?,
            Some(By::X509Serial(text)) => {
                let serial = Serial::parse_hex(text)
                    .ok_or_else(|| Status::invalid_argument("not a serial: 32 hex digits"))?;
                match reads.issued(&serial).await.map_err(store)? {
                    Some(issued) => reads.record_at(issued.seq).await.map_err(store)?,
                    None => None,
                }
            }
            Some(By::Jti(jti)) => self.by_jti(jti).await?,
            None => return Err(Status::invalid_argument("`by` is missing: which record")),
        };
        let record = record.ok_or_else(|| Status::not_found("no such record"))?;
        let refs = match asked.with_refs {
            true => self.way_back(&record).await?.iter().map(said).collect(),
            false => Vec::new(),
        };
        let record = Some(said(&record));
        Ok(Response::new(proto::GetRecordResponse { record, refs }))
    }

    async fn get_blob(
        &self,
        request: Request<proto::GetBlobRequest>,
    ) -> Result<Response<proto::GetBlobResponse>, Status> {
        let digest = request.into_inner().sha256;
        let digest = digest
            .as_slice()
            .try_into()
            .map_err(|_| Status::invalid_argument("`sha256` has not 32 bytes"))?;
        let blob = self.0.store.blob(&digest).await.map_err(store)?;
        let blob = blob.ok_or_else(|| Status::not_found("no such evidence"))?;
        let gone =
            || Status::data_loss("the evidence was thinned after its time; its hash is kept");
        let data = blob.bytes.ok_or_else(gone)?;
        Ok(Response::new(proto::GetBlobResponse { media_type: blob.media_type, data }))
    }

    async fn certify_attestation_key(
        &self,
        request: Request<proto::CertifyAttestationKeyRequest>,
    ) -> Result<Response<proto::CertifyAttestationKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let within = patience(&request);
        let node = self.node(&request.into_inner().node_id).await?;
        let signed = attestation_key::certify(&self.0, &caller, &node, within).await?;
        Ok(Response::new(proto::CertifyAttestationKeyResponse {
            certificate: signed.certificate,
            authority: signed.authority,
            not_after_ms: signed.not_after.unix_ms(),
        }))
    }

    async fn get_authority(
        &self,
        _: Request<proto::GetAuthorityRequest>,
    ) -> Result<Response<proto::GetAuthorityResponse>, Status> {
        let domain = &self.0;
        let now = domain.clock.now();
        let (rows, _) = domain.store.authorities().await.map_err(store)?;
        let keys = domain.authority.keys();
        let device = own_tpm(domain);
        let mut authorities = Vec::new();
        for row in rows {
            let key = [&keys.x509, &keys.jwt]
                .into_iter()
                .find(|key| key.spki_sha256() == row.spki_sha256);
            let proof = key.map(|key| key.custody());
            let life = row.not_after.since(row.not_before);
            authorities.push(proto::Authority {
                key_id: row.authority_id.clone(),
                id: row.authority_id,
                r#use: match row.kind {
                    AuthorityKind::X509 => "x509",
                    AuthorityKind::Jwt => "jwt",
                    AuthorityKind::Attestation => "attestation",
                }
                .to_owned(),
                state: match row.state {
                    AuthorityState::Prepared => "prepared",
                    AuthorityState::Active => "active",
                    AuthorityState::Old => "old",
                }
                .to_owned(),
                algorithm: "ES256".to_owned(),
                spki_sha256: row.spki_sha256.to_vec(),
                certificate: match row.kind {
                    AuthorityKind::X509 | AuthorityKind::Attestation => row.public,
                    AuthorityKind::Jwt => Vec::new(),
                },
                not_before_ms: row.not_before.unix_ms(),
                not_after_ms: row.not_after.unix_ms(),
                custody: Some(proto::Custody {
                    class: row.custody.to_string(),
                    gate: proof.map(|proof| gate(proof.gate()).to_owned()).unwrap_or_default(),
                    tpm_class: device.as_ref().map(|(class, _)| class.clone()).unwrap_or_default(),
                    ek_sha256: device.as_ref().map(|(_, ek)| ek.to_vec()).unwrap_or_default(),
                    evidence_sha256: proof
                        .map(|proof| proof.evidence().iter().flat_map(hex::decode).collect())
                        .unwrap_or_default(),
                    ..Default::default()
                }),
                capacity: key.map_or(0.0, |key| key.capacity().signatures_per_second()),
                expiring: row.not_after.since(now) <= life / 6,
            });
        }
        Ok(Response::new(proto::GetAuthorityResponse { authorities }))
    }
}

/// Class and EK of the server's own TPM, read again from what its custody proof rests on.
fn own_tpm(domain: &Domain) -> Option<(String, [u8; 32])> {
    let Custody::Tpm { anchors, .. } = &domain.config.custody else { return None };
    let shown = &domain.authority.keys().evidence;
    let certificates: Vec<&[u8]> = shown
        .iter()
        .filter(|item| Certificate::parse(&item.bytes).is_ok())
        .map(|item| item.bytes.as_slice())
        .collect();
    let now = domain.clock.now();
    shown.iter().find_map(|item| {
        let verified = endorsement::verify(&certificates, &certificates, &item.bytes, anchors, now);
        let verified = verified.ok()?;
        Some((verified.class().as_str().to_owned(), *verified.spki_sha256()))
    })
}

fn gate(gate: crate::appraisal::Gate) -> &'static str {
    match gate {
        crate::appraisal::Gate::None => "none",
        crate::appraisal::Gate::AtLoad => "at-load",
        crate::appraisal::Gate::PerSign => "per-sign",
    }
}

fn said(record: &Record) -> proto::Record {
    proto::Record {
        seq: record.seq,
        body: record.body.bytes().to_vec(),
        leaf: record.leaf.to_vec(),
    }
}

/// A host that is welcome and has not come yet: its id is not known, the hash does not tell it.
fn unseen(admission: &EkAdmission) -> proto::NodeState {
    proto::NodeState {
        hardware: admission.kind.as_str().to_owned(),
        hardware_digest: admission.spki_sha256.to_vec(),
        ek_sha256: vec![admission.spki_sha256.to_vec()],
        admission: proto::node_state::Admission::Hash.into(),
        owner: admission.owner.clone(),
        labels: admission.labels.clone().into_iter().collect(),
        faces: admission.faces.iter().map(|face| face.as_str().to_owned()).collect(),
        profile: admission.profile.clone().unwrap_or_default(),
        no_sha1: admission.no_sha1,
        ..Default::default()
    }
}

fn digest32(field: &str, digest: &[u8]) -> Result<[u8; 32], Status> {
    let fault = || Status::invalid_argument(format!("`{field}` has not 32 bytes"));
    digest.try_into().map_err(|_| fault())
}

/// SHA-256 of the SPKI of a certificate's key.
fn key_of(field: &str, der: &[u8]) -> Result<[u8; 32], Status> {
    let invalid = |fault: String| Status::invalid_argument(format!("`{field}`: {fault}"));
    let certificate = Certificate::parse(der).map_err(|error| invalid(error.to_string()))?;
    let key = certificate.public_key().map_err(|error| invalid(error.to_string()))?;
    Ok(key.spki_sha256())
}

fn page(asked: u32, default: usize) -> usize {
    match usize::try_from(asked) {
        Ok(0) => default,
        Ok(asked) => asked.min(MAX_PAGE),
        Err(_) => MAX_PAGE,
    }
}
