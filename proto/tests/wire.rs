//! The field numbers are the interface: each message here is held against bytes written by hand
//! from the published numbers, in both directions. Names of services are, too.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use assay_proto::assay::v1;
use assay_proto::attestation;
use assay_proto::google::rpc;
use assay_proto::health::v1 as health;
use assay_proto::spire::api::server::agent::v1 as agent;
use assay_proto::spire::api::server::entry::v1 as entry;
use assay_proto::spire::api::server::svid::v1 as svid;
use assay_proto::spire::api::types;
use assay_proto::workload;
use prost::Message;
use prost::Name;
use tonic::server::NamedService;

/// A length-delimited field (wire type 2) as protobuf's encoding page describes it.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend(content);
    out
}

/// A varint field (wire type 0).
fn number(number: u32, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3);
    out.extend(varint(value));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn same<M: Message + Default + PartialEq + Debug>(message: M, bytes: Vec<u8>) {
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(M::decode(bytes.as_slice()).unwrap(), message);
}

#[test]
fn attest_agent_carries_type_payload_and_csr() {
    let data = [field(1, b"assay"), field(2, &[7, 8])].concat();
    let params = [field(1, &data), field(2, &field(1, &[9]))].concat();
    same(
        agent::AttestAgentRequest {
            step: Some(agent::attest_agent_request::Step::Params(
                agent::attest_agent_request::Params {
                    data: Some(types::AttestationData {
                        r#type: "assay".into(),
                        payload: vec![7, 8],
                    }),
                    params: Some(agent::AgentX509svidParams { csr: vec![9] }),
                },
            )),
        },
        field(1, &params),
    );
    same(
        agent::AttestAgentResponse {
            step: Some(agent::attest_agent_response::Step::Challenge(vec![1, 2, 3])),
        },
        vec![0x12, 3, 1, 2, 3],
    );
}

#[test]
fn an_entry_keeps_its_numbers() {
    let id = [field(1, b"example.org"), field(2, b"/web")].concat();
    let bytes = [
        field(1, b"e1"),
        field(2, &id),
        field(4, &[field(1, b"unix"), field(2, b"uid:0")].concat()),
        number(5, 3600),
        number(7, 1),
        field(10, b"web"),
        number(11, 4),
        number(13, 300),
        field(14, b"hint"),
        number(15, 1_700_000_000),
        field(16, &number(2, 1)),
    ]
    .concat();
    same(
        types::Entry {
            id: "e1".into(),
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "example.org".into(),
                path: "/web".into(),
            }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:0".into() }],
            x509_svid_ttl: 3600,
            admin: true,
            dns_names: vec!["web".into()],
            revision_number: 4,
            jwt_svid_ttl: 300,
            hint: "hint".into(),
            created_at: 1_700_000_000,
            additional_attributes: Some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: false,
                jwt_svid_include_jti: true,
            }),
            ..Default::default()
        },
        bytes,
    );
}

#[test]
fn the_entry_extension_survives_under_field_1000() {
    let extension = [number(1, 1), number(2, 1)].concat();
    // Tag 1000 with wire type 2 is (1000 << 3 | 2) = 8002 = 0xc2 0x3e.
    let bytes = [vec![0x0a, 2], b"e1".to_vec(), vec![0xc2, 0x3e, 4], extension].concat();
    same(
        types::Entry {
            id: "e1".into(),
            assay: Some(v1::EntryExtension {
                instance: v1::Instance::Process.into(),
                admit_unattested: true,
            }),
            ..Default::default()
        },
        bytes,
    );
}

#[test]
fn the_instance_facts_survive_under_field_1000() {
    let facts = [number(1, 42), number(2, 99), field(3, b"ab"), field(4, &[5; 32])].concat();
    let params = [field(1, b"e1"), field(2, &[1]), field(1000, &facts)].concat();
    same(
        svid::BatchNewX509svidRequest {
            params: vec![svid::NewX509svidParams {
                entry_id: "e1".into(),
                csr: vec![1],
                assay: Some(v1::InstanceFacts {
                    pid: 42,
                    start_time: 99,
                    parent_serial: "ab".into(),
                    executable_sha256: vec![5; 32],
                }),
            }],
        },
        field(1, &params),
    );
}

#[test]
fn fields_we_do_not_know_are_passed_over() {
    let bytes = [field(1, b"e1"), field(2000, b"of tomorrow")].concat();
    assert_eq!(types::Entry::decode(bytes.as_slice()).unwrap().id, "e1");
}

#[test]
fn truncated_bytes_are_refused() {
    let bytes = field(1, b"entry");
    assert!(types::Entry::decode(&bytes[..4]).is_err());
}

#[test]
fn the_workload_api_keeps_its_numbers() {
    let svid = [field(1, b"spiffe://a/b"), field(2, &[1]), field(3, &[2]), field(4, &[3])].concat();
    same(
        workload::X509svidResponse {
            svids: vec![workload::X509svid {
                spiffe_id: "spiffe://a/b".into(),
                x509_svid: vec![1],
                x509_svid_key: vec![2],
                bundle: vec![3],
                hint: String::new(),
            }],
            crl: vec![vec![9]],
            federated_bundles: [("spiffe://c".to_owned(), vec![4])].into(),
        },
        [
            field(1, &svid),
            field(2, &[9]),
            field(3, &[field(1, b"spiffe://c"), field(2, &[4])].concat()),
        ]
        .concat(),
    );
    same(
        workload::JwtsvidRequest { audience: vec!["x".into()], spiffe_id: "spiffe://a/b".into() },
        [field(1, b"x"), field(2, b"spiffe://a/b")].concat(),
    );
}

#[test]
fn masks_filters_and_syncing_keep_their_numbers() {
    same(
        entry::ListEntriesRequest {
            filter: Some(entry::list_entries_request::Filter {
                by_hint: Some("h".into()),
                by_downstream: Some(false),
                ..Default::default()
            }),
            output_mask: Some(types::EntryMask { hint: true, ..Default::default() }),
            page_size: 2,
            page_token: "t".into(),
        },
        [
            // A wrapper around false is there, and empty.
            field(1, &[field(5, &field(1, b"h")), field(6, &[])].concat()),
            field(2, &number(14, 1)),
            number(3, 2),
            field(4, b"t"),
        ]
        .concat(),
    );
    same(
        entry::SyncAuthorizedEntriesResponse {
            entry_revisions: vec![entry::EntryRevision {
                id: "e".into(),
                revision_number: 1,
                created_at: 2,
            }],
            entries: vec![],
            more: true,
        },
        [field(1, &[field(1, b"e"), number(2, 1), number(3, 2)].concat()), number(3, 1)].concat(),
    );
}

#[test]
fn the_exchange_keeps_its_numbers() {
    let bank = [number(1, 0x000b), number(2, 1)].concat();
    let hello = [field(1, b"native"), field(5, &[1]), field(7, &[2]), field(9, &bank)].concat();
    same(
        attestation::FromAgent {
            message: Some(attestation::from_agent::Message::Hello(attestation::Hello {
                face: "native".into(),
                ek_public: vec![1],
                ak_public: vec![2],
                banks: vec![attestation::PcrBank { alg: 0x000b, active: true }],
                ..Default::default()
            })),
        },
        field(1, &hello),
    );
    same(
        attestation::FromServer {
            message: Some(attestation::from_server::Message::Outcome(attestation::Outcome {
                node_id: "n".into(),
                quoted_at: 3,
                expires_at: 4,
                refresh_after_s: 5,
                ..Default::default()
            })),
        },
        field(3, &[field(1, b"n"), number(3, 3), number(4, 4), number(5, 5)].concat()),
    );
    same(
        attestation::Refusal {
            code: "pcr".into(),
            correlation_id: "c".into(),
            findings: vec![attestation::Finding {
                code: "pcr".into(),
                source: "profile.toml:3".into(),
                ..Default::default()
            }],
            retry_after_s: 7,
        },
        [
            field(1, b"pcr"),
            field(2, b"c"),
            field(3, &[field(1, b"pcr"), field(5, b"profile.toml:3")].concat()),
            number(4, 7),
        ]
        .concat(),
    );
}

#[test]
fn statuses_keep_their_numbers() {
    same(
        types::PermissionDeniedDetails {
            reason: types::permission_denied_details::Reason::AgentMustReattest.into(),
        },
        vec![0x08, 5],
    );
    same(
        rpc::Status { code: 7, message: "no".into(), details: vec![] },
        [number(1, 7), field(2, b"no")].concat(),
    );
    same(health::HealthCheckResponse { status: 1 }, vec![0x08, 1]);
}

#[test]
fn services_have_their_published_names() {
    use agent::agent_server::AgentServer;
    use assay_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
    use entry::entry_server::EntryServer;
    use health::health_server::HealthServer;
    use svid::svid_server::SvidServer;
    use v1::admin_server::AdminServer;
    use v1::node_server::NodeServer;
    use workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;

    let names = [
        <SpiffeWorkloadApiServer<()> as NamedService>::NAME,
        <AgentServer<()> as NamedService>::NAME,
        <EntryServer<()> as NamedService>::NAME,
        <SvidServer<()> as NamedService>::NAME,
        <BundleServer<()> as NamedService>::NAME,
        <HealthServer<()> as NamedService>::NAME,
        <NodeServer<()> as NamedService>::NAME,
        <AdminServer<()> as NamedService>::NAME,
    ];
    assert_eq!(
        names,
        [
            "SpiffeWorkloadAPI",
            "spire.api.server.agent.v1.Agent",
            "spire.api.server.entry.v1.Entry",
            "spire.api.server.svid.v1.SVID",
            "spire.api.server.bundle.v1.Bundle",
            "grpc.health.v1.Health",
            "assay.v1.Node",
            "assay.v1.Admin",
        ]
    );
    assert_eq!(attestation::Refusal::full_name(), "assay.attestation.v1.Refusal");
    assert_eq!(
        types::PermissionDeniedDetails::full_name(),
        "spire.api.types.PermissionDeniedDetails"
    );
}

#[test]
fn secrets_are_not_shown_by_debug() {
    let svid = workload::X509svid { x509_svid_key: b"SECRET".to_vec(), ..Default::default() };
    let response = workload::X509svidResponse { svids: vec![svid], ..Default::default() };
    let shown = format!("{response:?}");
    assert!(shown.contains("6 bytes, hidden"), "{shown}");
    assert!(!shown.contains("83, 69, 67"), "{shown}");

    let token = types::Jwtsvid { token: "eySECRET".into(), ..Default::default() };
    let shown = format!("{:?}", svid::NewJwtsvidResponse { svid: Some(token) });
    assert!(!shown.contains("SECRET"), "{shown}");
}
