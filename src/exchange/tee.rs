//! What a confidential machine's processor says, in an exchange: which kinds are asked for.
//!
//! Hello.kinds is a claim: a machine that leaves out what it has is judged as one that lacks it.

use crate::envelope::MediaType;

/// Of what an agent can give: one report, and what goes with it. A machine has one processor, so
/// whoever offers the reports of two is asked for the first.
pub(super) fn wanted(offered: &[MediaType]) -> impl Iterator<Item = MediaType> + '_ {
    const REPORTS: [&[MediaType]; 3] = [
        &[MediaType::SnpReport, MediaType::SnpHostCerts],
        &[MediaType::TdxQuote, MediaType::Ccel],
        &[MediaType::HclReport, MediaType::SnpHostCerts],
    ];
    let asked =
        REPORTS.into_iter().find(|kinds| kinds.first().is_some_and(|k| offered.contains(k)));
    asked.unwrap_or_default().iter().copied().filter(|kind| offered.contains(kind))
}
