//! Which TCB level a platform reaches: of its processor, its TDX module and its quoting enclave.
//!
//! Source: Intel PCS API v4, "Get TDX TCB Info", the steps of TCB level matching; for TD 1.5 also
//! the convergence that Intel's library calls relaunch. Where Intel lets a need of one part fall
//! under the table, it is kept here (oracle/tests/differential.rs lists where the two part).

use crate::collateral::Level;
use crate::collateral::ModuleSigner;
use crate::collateral::Standing;
use crate::collateral::SvnLevel;
use crate::collateral::TcbInfo;
use crate::collateral::VerifiedCollateral;
use crate::endorsement::PckFacts;
use crate::quote::EnclaveReport;
use crate::verify::Subject;

/// Of all parts together.
pub(super) fn standing(
    subject: Subject<'_>,
    qe_report: &EnclaveReport,
    platform: &PckFacts,
    collateral: &VerifiedCollateral,
) -> Standing {
    let tcb_info = collateral.tcb_info();
    let qe = highest(&collateral.qe_identity().levels, qe_report.isv_svn);
    let Subject::Domain(body) = subject else {
        return processor(tcb_info, |level| processor_reaches(platform, level)).join(qe);
    };
    let launch = with_module(&body.tee_tcb_svn, platform, tcb_info).join(qe.clone());
    match body.preserved {
        Some(td) => {
            let current = with_module(&td.tee_tcb_svn2, platform, tcb_info).join(qe);
            launch.relaunched(current)
        }
        None => launch,
    }
}

/// The identity for the module that these SVNs name; nothing if its major version is not listed.
pub(super) fn module_signer<'a>(svn: &[u8; 16], tcb_info: &'a TcbInfo) -> Option<&'a ModuleSigner> {
    match module_version(svn) {
        0 => tcb_info.module.as_ref(),
        _ => {
            let id = module_id(svn);
            tcb_info
                .modules
                .iter()
                .find(|module| module.id.eq_ignore_ascii_case(&id))
                .map(|module| &module.signer)
        }
    }
}

/// `TDX_01`, `TDX_03`, …
pub(crate) fn module_id(svn: &[u8; 16]) -> String {
    format!("TDX_{:02X}", module_version(svn))
}

/// TEE_TCB_SVN: byte 0 is the module's minor SVN, byte 1 its major version.
fn module_version(svn: &[u8; 16]) -> u8 {
    let [_, version, ..] = svn;
    *version
}

fn with_module(svn: &[u8; 16], platform: &PckFacts, tcb_info: &TcbInfo) -> Standing {
    let processor = processor(tcb_info, |level| reaches(svn, platform, level));
    if module_version(svn) == 0 {
        return processor;
    }
    let id = module_id(svn);
    let [minor, ..] = svn;
    let module = tcb_info.modules.iter().find(|module| module.id.eq_ignore_ascii_case(&id));
    let module =
        module.map_or_else(Standing::no_level, |module| highest(&module.levels, u16::from(*minor)));
    processor.join(module)
}

/// The highest level that is reached.
fn processor(tcb_info: &TcbInfo, reaches: impl Fn(&Level) -> bool) -> Standing {
    let reached = tcb_info.levels.iter().find(|level| reaches(level));
    reached.map_or_else(Standing::no_level, |level| level.standing.clone())
}

/// Every component at least that of the level. The first two TDX components are the module's own
/// where it has a major version; its identity judges them.
fn reaches(svn: &[u8; 16], platform: &PckFacts, level: &Level) -> bool {
    let skipped = if module_version(svn) > 0 { 2 } else { 0 };
    let tdx = svn.iter().zip(&level.tdx).skip(skipped).all(|(found, wanted)| found >= wanted);
    tdx && processor_reaches(platform, level)
}

fn processor_reaches(platform: &PckFacts, level: &Level) -> bool {
    let sgx = platform.sgx_svn.iter().zip(&level.sgx).all(|(found, wanted)| found >= wanted);
    sgx && platform.pcesvn >= level.pcesvn
}

/// Levels stand highest first.
fn highest(levels: &[SvnLevel], svn: u16) -> Standing {
    let reached = levels.iter().find(|level| svn >= level.isvsvn);
    reached.map_or_else(Standing::no_level, |level| level.standing.clone())
}
