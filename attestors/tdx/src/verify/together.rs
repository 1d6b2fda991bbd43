//! Whether quote, platform and collateral speak of the same machine, enclave and module.

use crate::collateral::QeIdentity;
use crate::collateral::VerifiedCollateral;
use crate::endorsement::PckFacts;
use crate::error::Error;
use crate::error::Place;
use crate::quote::Body;
use crate::quote::EnclaveReport;
use crate::verify::Subject;
use crate::verify::level;

pub(super) fn faults(
    subject: Subject<'_>,
    qe_report: &EnclaveReport,
    platform: &PckFacts,
    collateral: &VerifiedCollateral,
) -> Vec<Error> {
    let tcb_info = collateral.tcb_info();
    let mut faults = Vec::new();
    let documents =
        [(Place::TcbInfo, tcb_info.tee), (Place::QeIdentity, collateral.qe_identity().tee)];
    for (place, found) in documents.into_iter().filter(|(_, found)| *found != subject.tee()) {
        let cause = format!("of {found}, {} expected", subject.tee());
        faults.push(Error::collateral(place, cause));
    }
    if tcb_info.fmspc != platform.fmspc {
        faults.push(Error::Fmspc { found: tcb_info.fmspc, expected: platform.fmspc });
    }
    if tcb_info.pce_id != platform.pce_id {
        faults.push(Error::PceId { found: tcb_info.pce_id, expected: platform.pce_id });
    }
    faults.extend(qe_faults(qe_report, collateral.qe_identity()));
    if let Subject::Domain(body) = subject {
        faults.extend(module_faults(body, collateral));
    }
    faults
}

fn qe_faults(found: &EnclaveReport, expected: &QeIdentity) -> Vec<Error> {
    let mut faults = Vec::new();
    let mut compare = |claim, found: String, expected: String| {
        if found != expected {
            faults.push(Error::QeIdentity { claim, found, expected });
        }
    };
    compare("mrsigner", hex::encode(found.mrsigner), hex::encode(expected.mrsigner));
    compare("product", found.isv_prod_id.to_string(), expected.isv_prod_id.to_string());
    compare(
        "miscselect",
        masked(&found.miscselect, &expected.miscselect_mask),
        masked(&expected.miscselect, &expected.miscselect_mask),
    );
    compare(
        "attributes",
        masked(&found.attributes, &expected.attributes_mask),
        masked(&expected.attributes, &expected.attributes_mask),
    );
    // Whatever a document's mask leaves open: what a debug enclave signs, anybody signs.
    compare("debug attribute", found.debug().to_string(), false.to_string());
    faults
}

/// Signer and attributes of the module that launched the TD, and a place in the document for the
/// one that runs it now.
fn module_faults(body: &Body, collateral: &VerifiedCollateral) -> Vec<Error> {
    let mut faults = Vec::new();
    let versions = [Some(body.tee_tcb_svn), body.preserved.map(|td| td.tee_tcb_svn2)];
    for svn in versions.into_iter().flatten() {
        let Some(expected) = level::module_signer(&svn, collateral.tcb_info()) else {
            faults.push(Error::Module {
                claim: "version",
                found: level::module_id(&svn),
                expected: "a version that the TCB info lists".into(),
            });
            continue;
        };
        if body.mrsignerseam != expected.mrsigner {
            faults.push(Error::Module {
                claim: "signer",
                found: hex::encode(body.mrsignerseam),
                expected: hex::encode(expected.mrsigner),
            });
        }
        let found = masked(&body.seam_attributes, &expected.attributes_mask);
        let wanted = masked(&expected.attributes, &expected.attributes_mask);
        if found != wanted {
            faults.push(Error::Module { claim: "attributes", found, expected: wanted });
        }
    }
    faults.dedup();
    faults
}

fn masked(bytes: &[u8], mask: &[u8]) -> String {
    hex::encode(bytes.iter().zip(mask).map(|(byte, mask)| byte & mask).collect::<Vec<_>>())
}
